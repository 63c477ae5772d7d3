"""``bessemer init``: the whole configuration as a commented file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bessemer.config import Config, Section
from bessemer.errors import ConfigError
from bessemer.recipes.output import claim_folder

HEADER = """\
# Bessemer's configuration: every key with its default. Flags win over this file.
# Delete what you do not change; an unknown key is an error that names the nearest known one.
"""


def init(folder: str) -> Path:
    """Write ``bessemer.yaml`` into ``folder``. Raises ConfigError rather than write over one."""
    path = claim_folder(folder, "DIR") / "bessemer.yaml"
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(HEADER + "\n".join(_lines(Config, 0)) + "\n")
    except FileExistsError:
        raise ConfigError(f"{path}: is there already; delete it first or choose another folder") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); choose another folder") from None
    return path


def _lines(section: type[Section], depth: int) -> list[str]:
    lines = []
    indent = "  " * depth
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            doc = (kind.__doc__ or "").splitlines()[0] if kind.__doc__ else ""
            lines += [
                "",
                *([f"{indent}# {doc}"] if doc and kind.__doc__ != Section.__doc__ else []),
                f"{indent}{name}:",
            ]
            lines += _lines(kind, depth + 1)
        else:
            comment = f"  # {field.description}" if field.description else ""
            lines.append(f"{indent}{name}: {_yaml(field.default)}{comment}")
    return lines


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
