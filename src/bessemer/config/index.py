"""Of the index that is searched."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from bessemer.config.section import Section, with_home


class IndexConfig(Section):
    """Where passages and vectors are kept, and what is searched beside the passages themselves."""

    engine: str = Field(
        "",
        description="what keeps the index: files, qdrant-edge or milvus in a folder; empty: what the address says "
        "(milvus://host:port/NAME, qdrant://...), what the index there has, or files",
    )
    questions: tuple[str, ...] = Field(
        (),
        description="questions that point at their passages: BEIR folders, of which those of train are taken, and "
        "JSONL files of people's questions or feedback",
    )
    late_chunking: bool = Field(
        False, description="passages are read in their documents (--source, models with mean pooling)"
    )
    fusion_data: str | None = Field(
        None,
        description="judged data whose dev queries choose the weights of the lanes; unset: ranks are fused",
    )

    _paths = field_validator("fusion_data")(with_home)

    @field_validator("questions", mode="before")
    @classmethod
    def _list_of_a_flag(cls, value: Any) -> Any:
        """``mined,feedback.jsonl``, as a command line gives them; ``none`` is the empty list."""
        if not isinstance(value, str):
            return value
        return [part.strip() for part in value.split(",") if part.strip()] if value != "none" else []

    @field_validator("questions")
    @classmethod
    def _paths_of_questions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(with_home, value))
