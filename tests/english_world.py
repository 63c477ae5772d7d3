"""A small world of real English: docstrings of the standard library as a BEIR folder; a static model of its words."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

MODULES = (
    "argparse", "ast", "base64", "calendar", "configparser", "contextlib", "csv", "difflib", "fractions", "functools",
    "inspect", "ipaddress", "mailbox", "pathlib", "pickle", "random", "statistics", "textwrap", "zipfile",
)  # fmt: skip
N_PASSAGES = 60
SPLITS = {"train": range(24), "dev": range(24, 32), "test": range(32, 48)}
"""Passages whose summary line is a query of the split; the other passages are asked for by nobody."""


@cache
def docstring_pairs() -> tuple[tuple[str, str, str], ...]:
    """(module, summary line, body) of N_PASSAGES docstrings."""
    found: dict[str, tuple[str, str]] = {}
    for module in MODULES:
        tree = ast.parse(Path(sysconfig.get_paths()["stdlib"], f"{module}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            docstring = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
            summary, _, body = inspect.cleandoc(docstring or "").partition("\n\n")
            if len(summary.split()) >= 4 and 12 <= len(body.split()) <= 60:
                found.setdefault(" ".join(summary.split()), (module, " ".join(body.split())))
    pairs = [(module, summary, body) for summary, (module, body) in found.items()]
    return tuple(pairs[:: len(pairs) // N_PASSAGES][:N_PASSAGES])


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_beir(folder: Path) -> Path:
    """Queries are summary lines, passages the bodies below them."""
    pairs = docstring_pairs()
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"p{i}", "title": module, "text": body} for i, (module, _, body) in enumerate(pairs)]
    write_jsonl(folder / "corpus.jsonl", corpus)
    queries = [{"_id": f"q{i}", "text": pairs[i][1]} for places in SPLITS.values() for i in places]
    write_jsonl(folder / "queries.jsonl", queries)
    for split, places in SPLITS.items():
        lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\tp{i}\t1" for i in places)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_documents(folder: Path) -> Path:
    """One Markdown file per module, a heading and a paragraph per docstring."""
    folder.mkdir(parents=True)
    for module in MODULES:
        sections = [f"## {summary}\n\n{body}\n" for name, summary, body in docstring_pairs() if name == module]
        if sections:
            (folder / f"{module}.md").write_text(f"# The module {module}\n\n" + "\n".join(sections), encoding="utf-8")
    return folder


def write_static_model(folder: Path) -> Path:
    """A sentence-transformers folder: mean of 32 random numbers per lowercased word of the world, cosine similarity."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    words = sorted({word for pair in docstring_pairs() for word in re.findall(r"\w+|[^\w\s]+", " ".join(pair).lower())})
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(("[UNK]", *words))}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    vectors = torch.randn(len(words) + 1, 32, generator=torch.Generator().manual_seed(1)).numpy()
    modules = [StaticEmbedding(tokenizer, embedding_weights=vectors), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


def write_bert_model(folder: Path) -> Path:
    """A sentence-transformers folder: a tiny BERT with random weights over the lowercased words of the world, mean
    pooling, cosine similarity. Random, yet shared words bring texts together."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({word for pair in docstring_pairs() for word in re.findall(r"\w+|[^\w\s]+", " ".join(pair).lower())})
    ids = {word: i for i, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *words))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(word, ids[word]) for word in ("[CLS]", "[SEP]")]
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(ids), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, initializer_range=0.1,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder / "bert")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=128,
    ).save_pretrained(folder / "bert")  # fmt: skip
    modules = [Transformer(str(folder / "bert")), Pooling(64, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu", similarity_fn_name="cosine").save(str(folder / "model"))
    return folder / "model"
