"""Names of generations and facts: they may come from a manifest, and become names of folders and collections."""

from __future__ import annotations

import re

from bessemer.errors import ArtifactError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def checked_name(name: str, location: str) -> str:
    """Raises ArtifactError for what can be no name of ours."""
    if not _NAME.fullmatch(name):
        raise ArtifactError(f"{location}: the index is damaged (name {name!r}); build it again")
    return name
