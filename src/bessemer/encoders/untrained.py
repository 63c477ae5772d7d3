"""Weights that a model's files lack: transformers fills them with random numbers, prints a table and goes on."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from bessemer.errors import ConfigError

_READ = "_is_hf_initialized"
"""The mark of transformers on every parameter that it found in the files, or tied to one of these."""
_NEVER_RUN = "pooler."
"""Of an encoder: token states are what all our encoders use, and many folders leave the pooler out for that."""


def refuse_untrained(model: nn.Module, name: str, fix: str, *, uses_pooler: bool = False) -> None:
    """Raise ConfigError, which ends with ``fix``, where a transformer within ``model``, as `from_pretrained` made it,
    holds parameters that no file gave it."""
    parameters = {
        parameter: called
        for module in model.modules()
        if isinstance(module, PreTrainedModel)
        for called, parameter in module.named_parameters()
    }
    random = sorted(
        called
        for parameter, called in parameters.items()
        if not hasattr(parameter, _READ) and (uses_pooler or _NEVER_RUN not in called)
    )
    if random:
        others = f" and {len(random) - 1} more" if len(random) > 1 else ""
        raise ConfigError(
            f"{name}: {len(random)} of its {len(parameters)} tensors are not in its files ({random[0]}{others}) and "
            f"would be random numbers; {fix}"
        )
