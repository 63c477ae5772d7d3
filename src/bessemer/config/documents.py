"""Of the way from files to passages and splits."""

from __future__ import annotations

from pydantic import Field

from bessemer.config.section import Section


class ColumnsConfig(Section):
    """Columns of a dataset that holds none of the known layouts. Dotted paths; lists are exploded."""

    query: str = Field(description="such as question")
    positives: str = Field(description="a text or a list of texts, such as context.contexts")
    negatives: tuple[str, ...] = Field((), description="columns of texts or lists of texts")
    answers: str | None = Field(None, description="reference answers")
    query_id: str | None = Field(None, description="ids; unset: hashes of the texts")


class ChunkingConfig(Section):
    """Documents to passages. Lengths are tokens of the target model."""

    max_tokens: int | None = Field(
        None, ge=16, description="passage length with its headings; unset: the model's limit"
    )
    min_tokens: int = Field(8, ge=1, description="shorter passages are merged into a neighbour, or dropped and counted")
    near_duplicates: float = Field(
        0.9, gt=0, le=1, description="Jaccard similarity from which a passage is a duplicate"
    )
    max_file_mib: int = Field(64, ge=1, description="larger files are skipped and counted")


class SplitConfig(Section):
    """Shares of documents (or near-duplicate clusters) held out."""

    dev: float = Field(0.1, gt=0, lt=0.5, description="share on which checkpoints and weights are chosen")
    test: float = Field(0.2, gt=0, lt=0.5, description="share on which the verdict is reached")
