"""A build folder as an encoder."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.cpu.manifest import TOKENIZER, read_build
from bessemer.encoders.cpu.networks import open_network
from bessemer.encoders.cpu.unified import CpuUnifiedEncoder
from bessemer.encoders.tokens import Lengths, TextTokenizer
from bessemer.errors import ArtifactError


def open_build(
    folder: str | Path,
    *,
    max_length: int | None = None,
    query_max_length: int | None = None,
    n_threads: int | None = None,
) -> CpuEncoder:
    """The encoder of a build; of a unified model it is a `CpuUnifiedEncoder`. Loads no torch.

    Raises ArtifactError for a damaged build, ConfigError where its engine is not installed and for lengths that it
    cannot take.
    """
    path = Path(folder).expanduser()
    build = read_build(path)
    try:
        backend = Tokenizer.from_file(str(path / TOKENIZER))
    except Exception as error:  # tokenizers raises Exception itself
        raise ArtifactError(f"{path / TOKENIZER}: cannot be read ({error}); run `bessemer export` again") from None
    tokenizer = TextTokenizer(
        backend,
        Lengths(build.query_max_length, build.max_length),
        pad_id=build.pad_id,
        padding_side=build.padding_side,
        cut_side=build.cut_side,
    )
    network = open_network(path, build.backend, n_threads)
    kind = CpuUnifiedEncoder if build.unified else CpuEncoder
    return kind(str(folder), build, tokenizer, network, max_length=max_length, query_max_length=query_max_length)
