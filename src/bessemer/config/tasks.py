"""Of several datasets that train together, and of prompts."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from bessemer.config.documents import ColumnsConfig
from bessemer.config.finetune import BatchSize, FinetuneConfig, TeacherTemperature
from bessemer.config.section import Section, with_home
from bessemer.errors import ConfigError


class PromptsConfig(Section):
    query: str = Field("", description="put before every query; a trailing space belongs to it")
    passage: str = Field("", description="put before every passage")


class TaskConfig(Section):
    """One of several datasets that train together; what is unset here is as in the finetune section."""

    data: str = Field(description="as --data")
    name: str | None = Field(None, description="in reports; unset: the name of the file or folder")
    task: str = Field("", description="whose prompts: qa, tool, ... (docs/tasks.md) or a name under `prompts`")
    columns: ColumnsConfig | None = None
    loss: str | None = None
    temperature: float | None = Field(None, gt=0)
    teacher_temperature: TeacherTemperature | None = None
    info_nce_weight: float | None = Field(None, ge=0)
    per_device_train_batch_size: BatchSize | None = None
    n_negatives: int | None = Field(None, ge=0)
    max_length: int | None = Field(None, ge=8)
    query_max_length: int | None = Field(None, ge=8)
    max_train_queries: int | None = Field(None, ge=1)

    _paths = field_validator("data")(with_home)

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.name or Path(self.data).name

    def settings(self, common: FinetuneConfig) -> FinetuneConfig:
        """``common`` with what this task says otherwise. Raises ConfigError where the two do not go together."""
        own = {name: value for name in FinetuneConfig.model_fields if (value := getattr(self, name, None)) is not None}
        try:
            return FinetuneConfig.model_validate({**common.model_dump(exclude_unset=True), **own})
        except ValidationError as error:
            faults = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
            fix = f"change its {', '.join(own)}, or the finetune section"
            raise ConfigError(f"tasks: {self.title}: {faults}; {fix}") from None
