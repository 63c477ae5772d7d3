"""A tiny unified model for training tests."""

from __future__ import annotations

from pathlib import Path

import tiny_world
import torch
from torch import nn

from bessemer.encoders.load import load_encoder
from bessemer.encoders.sparse_start import with_heads
from bessemer.encoders.unified import UnifiedEncoder


def opened(folder: Path, *, dropout: bool = False) -> UnifiedEncoder:
    """The tiny BERT with heads: the token vectors' no longer the identity, and most of the sparse weights above 0."""
    texts = [passage.indexed_text for passage in tiny_world.passages()]
    encoder = with_heads(load_encoder(str(folder), device="cpu", bf16=False), texts, 0)
    torch.manual_seed(1)
    with torch.no_grad():
        encoder.heads.multi_vector.weight.add_(0.1 * torch.randn_like(encoder.heads.multi_vector.weight))
    for module in encoder.model.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    return encoder
