"""Experiment trackers: whatever the library's trainer can report to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from bessemer.errors import ConfigError

log = logging.getLogger("bessemer")

SELF_EXPLAINED = frozenset({"azure_ml", "flyte", "kubeflow"})
"""Not among those that the library lists as available, or not a matter of packages: they say themselves what lacks."""


def open_trackers(names: Sequence[str], folder: Path) -> list[TrainerCallback]:
    """A callback of each. TensorBoard writes to ``folder``/runs unless the environment (TENSORBOARD_LOGGING_DIR) says
    where. Raises ConfigError for names that are not known and packages that are not there."""
    require_trackers(names)
    found = [_open(name) for name in names]
    for tracker in found:
        if isinstance(tracker, TensorBoardCallback) and tracker.logging_dir is None:
            tracker.logging_dir = str(folder / "runs")
            log.info("training: tensorboard --logdir %s", tracker.logging_dir)
    return found


def require_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError for names that are not known and packages that are not there."""
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise ConfigError(f"--report-to {name}: not known; known: {', '.join(sorted(INTEGRATION_TO_CALLBACK))}")
        if name not in SELF_EXPLAINED and name not in get_available_reporting_integrations():
            raise ConfigError(f"--report-to {name}: its package is not installed; pip install {name.replace('_', '-')}")


def _open(name: str) -> TrainerCallback:
    try:
        return INTEGRATION_TO_CALLBACK[name]()
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f"--report-to {name}: {error}") from None
