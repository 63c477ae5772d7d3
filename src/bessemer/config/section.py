"""What every part of the configuration is."""

from __future__ import annotations

import os.path
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Strict base: unknown keys are errors, values are immutable, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def with_home(value: Any) -> Any:
    """A file or folder as a shell would name it: of YAML, Python and ``--flag=~/x`` the ``~`` comes here as it is."""
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value
