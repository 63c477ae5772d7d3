"""Of questions for passages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bessemer.config.section import Section


class QuestionsConfig(Section):
    """Questions for passages: written by a language model, or without one taken from the documents' own words."""

    strategy: Literal["extract", "generate"] | None = Field(
        None, description="unset: generate where a language model is given, else extract"
    )
    per_passage: int | None = Field(
        None, ge=1, description="most questions of a train passage; unset: 2 extracted, or by length up to 8 generated"
    )
    per_test_passage: int = Field(1, ge=1, description="most questions of a dev or test passage")
    example: str | None = Field(None, description="generate: a question as your users ask it")
    style: str | None = Field(None, description="generate: how questions shall be written, such as: short, no names")
    multi_passage_share: float = Field(
        0.1, ge=0, le=1, description="generate: train passages that are also asked about together with the next one"
    )
    paraphrase: bool = Field(True, description="generate: dev and test questions are put into other words")
    judge: bool = Field(False, description="generate: the language model says whether a passage answers its question")
    round_trip: int = Field(
        20, ge=0, description="generate: rank from which a passage no longer counts as found by its question; 0: off"
    )
    max_source_share: float = Field(
        0.2, gt=0, le=1, description="generate: most of a split's questions that one document may bring"
    )
