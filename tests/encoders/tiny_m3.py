"""A tiny XLM-RoBERTa in BGE-M3's layout whose weights are drawn by numpy, so that they are the same everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tiny_models import VOCABULARY, word_tokenizer, words
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

PAIRS = [
    (words(1, 2, 3), words(3, 2, 3, 9, 10)),
    (words(1, 2, 3), words(40, 41)),
    (words(7), words(7, 7, 7, 8, 100, 150, 30)),
    (words(5, 6, 5), words(5)),
    (words(20, 21, 22, 23, 24, 25), "w20 [UNK] w22 w199 w25"),
    (words(11), words(*range(60, 90))),
]
"""Queries and passages: repeated tokens, nothing shared, an unknown word, lengths from 1 to 30."""


def drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Small layers over large embeddings: states of different tokens point different ways."""
    scale = 1.0 if "word_embeddings" in name else 0.2
    values = scale * rng.standard_normal(shape) + (name.endswith("LayerNorm.weight"))
    return torch.from_numpy(values).float()


def write_tiny_m3(folder: Path) -> None:
    """A bare transformers folder with ``sparse_linear.pt`` and ``colbert_linear.pt``, as BAAI publishes M3."""
    rng = np.random.default_rng(5)
    config = XLMRobertaConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=66, type_vocab_size=1, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    network = XLMRobertaModel(config)
    state = network.state_dict()
    floats = [name for name in sorted(state) if state[name].is_floating_point()]
    network.load_state_dict(state | {name: drawn(rng, name, tuple(state[name].shape)) for name in floats})
    network.save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer("[CLS] $A [SEP]"), model_max_length=64, bos_token="[CLS]", eos_token="[SEP]",
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    for name, rows in (("sparse_linear.pt", 1), ("colbert_linear.pt", 32)):
        head = {"weight": drawn(rng, name, (rows, 32)), "bias": drawn(rng, name, (rows,)) + (2.0 if rows == 1 else 0.0)}
        torch.save(head, folder / name)
    write_dense_layout(folder)


def write_dense_layout(folder: Path) -> None:
    """modules.json with cls pooling and normalisation, as M3 has it."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def flag_embedding_scores(folder: Path, pairs: list[tuple[str, str]]) -> dict[str, list[float]]:
    """What FlagEmbedding gives for ``pairs``, each pair alone: then it pads nothing."""
    from FlagEmbedding import BGEM3FlagModel

    model = BGEM3FlagModel(str(folder), use_fp16=False, devices="cpu")
    one_by_one = [model.compute_score([pair]) for pair in pairs]
    return {lane: [scores[lane][0] for scores in one_by_one] for lane in ("dense", "sparse", "colbert")}


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_tiny_m3(Path(folder))
        print(json.dumps(flag_embedding_scores(Path(folder), PAIRS)))
