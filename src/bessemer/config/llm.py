"""Of language models."""

from __future__ import annotations

from pydantic import Field, model_validator

from bessemer.config.section import Section


class LLMConfig(Section):
    """An OpenAI-compatible endpoint (docs/llm.md). Its key is read from the environment, and from nowhere else."""

    url: str | None = Field(None, description="such as http://localhost:8000/v1; unset: no language model is asked")
    model: str | None = Field(None, description="as the endpoint calls it; unset: the first that it lists")
    rewrite_model: str | None = Field(None, description="at the same endpoint, rewrites what is asked; unset: model")
    max_cost: float | None = Field(None, gt=0, description="of one run; needs the prices")
    max_tokens: int | None = Field(None, ge=1, description="that the language model reads and writes in one run")
    input_price: float | None = Field(None, ge=0, description="of a million tokens sent")
    output_price: float | None = Field(None, ge=0, description="of a million tokens received")
    concurrency: int = Field(16, ge=1, description="calls at the same time")
    timeout: float = Field(120.0, gt=0, description="seconds after which a call is sent again")
    max_retries: int = Field(5, ge=0, description="of a call that met 429, 5xx or a time-out, with growing pauses")

    @model_validator(mode="after")
    def _budget_in_known_money(self) -> LLMConfig:
        if self.max_cost is not None and (self.input_price is None or self.output_price is None):
            raise ValueError("max_cost needs input_price and output_price, per million tokens")
        return self
