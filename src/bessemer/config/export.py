"""Of CPU builds."""

from __future__ import annotations

from pydantic import Field

from bessemer.config.section import Section


class ExportConfig(Section):
    """What a CPU build may cost."""

    max_loss: float = Field(0.005, ge=0, description="nDCG@10 on dev that a build may lose against its source model")
