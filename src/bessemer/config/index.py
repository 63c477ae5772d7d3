"""Of the index that is searched."""

from __future__ import annotations

from pydantic import Field

from bessemer.config.section import Section


class IndexConfig(Section):
    """Where passages and vectors are kept."""

    engine: str = Field("files", description="what keeps the index; files: a folder, searched exactly")
