"""YAML as a person means it: PyYAML lets the last of two equal keys win, and says nothing of the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bessemer.errors import ConfigError

_MERGE = "tag:yaml.org,2002:merge"
"""Of the key <<, whose mappings give way to the keys beside it."""


def load_yaml(path: Path) -> Any:
    """What ``path`` holds. Raises ConfigError where a mapping has a key twice, and what PyYAML and files raise."""
    return _UniqueKeys(path).get_single_data()


class _UniqueKeys(yaml.SafeLoader):
    def __init__(self, path: Path) -> None:
        super().__init__(path.read_text(encoding="utf-8"))
        self.name = str(path)  # by which faults call the file

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Looks at the keys before those of << are put among them: these may be there again."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            line, known = key.start_mark.line + 1, lines.get((key.tag, key.value))
            if known is not None:
                raise ConfigError(
                    f"{self.name}:{line}: {key.value}: is in line {known} already; write the key once, with all that "
                    "belongs to it"
                )
            lines[key.tag, key.value] = line
        return node
