"""What training asks of an encoder, whichever library made its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor

from bessemer.encoders.encoder import Encoder, Side


class Trainable(Encoder, Protocol):
    """An encoder whose ``model``, a model of sentence-transformers with a transformer as its first module, trains in
    place. ``max_length`` and ``query_max_length``: tokens of a text, special ones included."""

    model: Any
    name: str
    device: str
    is_static: bool
    bf16: bool
    max_length: int | None
    query_max_length: int | None

    @property
    def dimension(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def for_task(self, task: str, max_length: int | None = None, query_max_length: int | None = None) -> Self: ...

    def tokenize_counted(self, texts: Sequence[str], side: Side) -> tuple[list[list[int]], int]:
        """Token ids per text, cut to the side's length, and how many texts were cut."""

    def features(self, token_ids: Sequence[Sequence[int]], side: Side) -> dict[str, Tensor]:
        """The model's input, on its device; each tensor has a row per text."""

    def copy_weights(self) -> dict[str, Tensor]: ...
    def load_weights(self, weights: Mapping[str, Tensor]) -> None: ...
    def save(self, folder: str | Path) -> None: ...
