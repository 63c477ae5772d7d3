"""An encoder for searching, whatever it is: a model, or a CPU build of one. torch is loaded for models only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.cpu.manifest import find_build, is_build
from bessemer.encoders.cpu.open import open_build

if TYPE_CHECKING:
    from bessemer.encoders.dense import DenseEncoder


def open_for_search(
    name: str,
    *,
    backend: str | None = None,
    device: str | None = None,
    bf16: bool | None = None,
    max_length: int | None = None,
    query_max_length: int | None = None,
    trust_remote_code: str | None = None,
) -> DenseEncoder | CpuEncoder:
    """A build folder by `open_build`, all else by `load_encoder`; with ``backend`` the build that lies in the model's
    folder. A build runs on the CPU in the precision of its file, whatever ``device`` and ``bf16`` say, and never runs
    remote code. Raises ConfigError where there is no such build, and what those two raise."""
    if backend is not None:
        name = str(find_build(name, backend))
    if is_build(name):
        return open_build(name, max_length=max_length, query_max_length=query_max_length)
    from bessemer.encoders.load import load_encoder

    encoder = load_encoder(
        name,
        device=device,
        bf16=bf16,
        max_length=max_length,
        query_max_length=query_max_length,
        trust_remote_code=trust_remote_code,
    )
    encoder.model.eval()  # a fresh model stands in training mode; each encoding would leave and restore it
    return encoder
