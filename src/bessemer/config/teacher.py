"""Of teachers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from bessemer.config.section import Section, with_home


class TeacherConfig(Section):
    """Who scores the candidates of each query, for a student to learn from (docs/teacher.md)."""

    kind: Literal["llm", "cross-encoder", "embedder"] = Field("llm", description="llm, cross-encoder or embedder")
    model: str | None = Field(None, description="name or folder of it; for llm, llm.url may name an endpoint instead")

    _paths = field_validator("model")(with_home)
