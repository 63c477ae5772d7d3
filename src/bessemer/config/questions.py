"""Of questions for passages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bessemer.config.section import Section


class QuestionsConfig(Section):
    strategy: Literal["extract"] = "extract"
    per_passage: int = Field(2, ge=1, description="at most this many questions for a training passage")
    per_test_passage: int = Field(1, ge=1, description="at most this many for a dev or test passage")
