"""An encoder of ours as an ONNX graph: token ids and mask in, finished vectors out."""

from __future__ import annotations

import contextlib
import copy
import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor, nn

from bessemer.encoders.cpu.manifest import ONNX_DATA
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.head_base import is_causal
from bessemer.encoders.two_towers import TwoTowerEncoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ConfigError

HEADS = "heads"
"""Part of the names of a unified model's heads in the graph."""
_CAN = "dense and unified models over a transformer whose tokens see both ways (BERT, RoBERTa, XLM-R, ...) can"
_TRACED = (2, 7)
"""Texts and tokens of the input that is followed through the model; both stay free in the graph."""


def require_exportable(encoder: DenseEncoder) -> None:
    """Raises ConfigError, which says what can be exported, for what cannot."""
    reason = _unfit(encoder)
    if reason:
        raise ConfigError(f"{encoder.name}: {reason}; {_CAN} be exported")


def _unfit(encoder: DenseEncoder) -> str:
    first: Any = encoder.model[0]
    if isinstance(encoder, TwoTowerEncoder):
        return "has a tower for queries and one for passages"
    if not isinstance(first, Transformer):
        return "a static model, which is a look-up and as fast as it gets without an engine"
    if is_causal(first):
        return "a decoder-only (causal) model"
    if any(isinstance(module, Pooling) and not module.include_prompt for module in encoder.model):
        return "leaves its prompt out of the pooling"
    return ""


def write_graph(encoder: DenseEncoder, file: Path) -> None:
    """The fp32 graph of ``encoder``, whatever precision it encodes in itself, by torch.export.

    Inputs: ``input_ids`` and ``attention_mask``, int64 (n, L). Outputs, float32: ``dense`` (n, d) as `embed` gives it,
    and of a unified model ``weights`` (n, L), at least 0, and ``vectors`` (n, L, m), of unit length; these two still
    hold numbers at padding and special tokens. The weights of a large model go into a file beside ``file``, its name
    with .data. Raises ConfigError for what cannot be exported.
    """
    require_exportable(encoder)
    n_texts, n_tokens = _TRACED
    input_ids = torch.ones(n_texts, n_tokens, dtype=torch.int64)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    names = ["dense", "weights", "vectors"] if isinstance(encoder, UnifiedEncoder) else ["dense"]
    with _silence(), torch.inference_mode():
        program = torch.onnx.export(
            _Graph(encoder),
            (input_ids, torch.ones_like(input_ids)),
            dynamo=True,
            dynamic_shapes=(free, free),
            input_names=["input_ids", "attention_mask"],
            output_names=names,
            verbose=False,
        )
        assert program is not None
        program.save(file)


def copy_graph(source: Path, target: Path) -> None:
    """With the weights beside it, where there are any. ``target`` has the name of ``source``, by which the graph calls
    them."""
    shutil.copy(source, target)
    data = source.with_name(ONNX_DATA)
    if data.is_file():
        shutil.copy(data, target.with_name(ONNX_DATA))


class _Graph(nn.Module):
    """What is followed: tensors in, tensors out. Attention is written out, as engines know its parts best."""

    def __init__(self, encoder: DenseEncoder) -> None:
        super().__init__()
        self.model = copy.deepcopy(encoder.model).to("cpu").eval()
        self.model[0].model.set_attn_implementation("eager")
        self.settle = encoder.settled
        self.has_heads = isinstance(encoder, UnifiedEncoder)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        first, *rest = self.model
        current: dict[str, Any] = first({"input_ids": input_ids, "attention_mask": attention_mask})
        hidden = current["token_embeddings"]
        for module in rest:
            current = module(current)
        dense = self.settle(current["sentence_embedding"])
        if not self.has_heads:
            return (dense,)
        heads = first.heads
        return dense, F.relu(heads.sparse(hidden)).squeeze(-1), F.normalize(heads.multi_vector(hidden), dim=-1)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter speaks of packages it does without and of names it makes up: nothing that a user could act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
