"""Which weights train: all, or the heads of a unified model alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from bessemer.encoders.trainable import Trainable
from bessemer.encoders.unified import UnifiedEncoder


def head_parameters(encoder: Trainable) -> Sequence[nn.Parameter]:
    """Those that a plain dense model does not have."""
    return list(encoder.heads.parameters()) if isinstance(encoder, UnifiedEncoder) else []


@contextmanager
def frozen_encoder(encoder: Trainable, wanted: bool) -> Iterator[None]:
    """Within it the heads alone train: no graph is built through the encoder, and checkpoints hold the heads."""
    heads = {id(parameter) for parameter in head_parameters(encoder)}
    frozen = [p for p in encoder.model.parameters() if p.requires_grad and id(p) not in heads] if wanted else []
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
