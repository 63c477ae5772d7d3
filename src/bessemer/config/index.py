"""Of the index that is searched."""

from __future__ import annotations

from pydantic import Field

from bessemer.config.section import Section


class IndexConfig(Section):
    """Where passages and vectors are kept."""

    engine: str = Field(
        "",
        description="what keeps the index: files, qdrant-edge or milvus in a folder; empty: what the address says "
        "(milvus://host:port/NAME, qdrant://...), what the index there has, or files",
    )
