"""Of hard negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bessemer.config.section import Section, with_home


class NegativesConfig(Section):
    """Hard negatives (docs/negatives.md). Scores are similarities of the mining model."""

    strategy: str = Field("top_k", description="top_k, random, simans, same_document, bm25 or mixed")
    n_negatives: int = Field(4, ge=0, description="negatives kept per query")
    candidates: Literal["dense", "bm25", "hybrid"] = Field("dense", description="who finds them, for top_k and simans")
    anchor: Literal["query", "positive"] = Field("query", description="whose neighbours, for top_k, simans and bm25")
    range_min: int = Field(0, ge=0, description="first rank considered, counted after positives are taken out")
    range_max: int = Field(100, ge=1, description="rank at which the window ends")
    simans_a: float = Field(0.5, gt=0, description="simans: how sharply the draw prefers scores near positive + b")
    simans_b: float = Field(0.0, description="simans: below 0, draws favour candidates less close than the positive")
    shares: Mapping[str, float] = Field(
        {"top_k": 0.5, "same_document": 0.25, "random": 0.25}, description="mixed: strategy -> share of n_negatives"
    )
    relative_margin: float | None = Field(
        None, ge=0, description="drop when score > margin * lowest positive score; unset: 0.95 (simans: off); 0: off"
    )
    absolute_margin: float | None = Field(None, description="drop when score > lowest positive score - margin")
    reranker: str | None = Field(None, description="cross-encoder that drops what it scores as high as a positive")

    _paths = field_validator("reranker")(with_home)

    @field_validator("shares", mode="before")
    @classmethod
    def _shares_of_a_flag(cls, value: Any) -> Any:
        """``top_k=0.5,random=0.5``, as a command line gives them."""
        if not isinstance(value, str):
            return value
        parts = value.split(",")
        bare = [part for part in parts if "=" not in part]
        if bare:
            raise ValueError(f"`{bare[0]}` has no share; write strategy=share pairs, such as top_k=0.5,random=0.5")
        return dict(part.split("=", 1) for part in parts)

    @model_validator(mode="after")
    def _possible(self) -> NegativesConfig:
        if self.range_max <= self.range_min:
            raise ValueError("range_max must be greater than range_min")
        if not self.shares or min(self.shares.values()) <= 0:
            raise ValueError("shares must be strategy=share pairs with shares above 0, such as top_k=0.5,random=0.5")
        if "mixed" in self.shares:
            raise ValueError("shares cannot hold `mixed` itself")
        return self
