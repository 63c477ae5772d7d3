"""Gradient checkpointing (Chen et al. 2016, 1604.06174): memory for time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError


@contextmanager
def gradient_checkpointing(encoder: Trainable, wanted: bool) -> Iterator[None]:
    """Within it each layer keeps its input alone and is computed again in the backward pass, with the same dropout: a
    forward pass more, and the gradient stays what it is. The model is as before afterwards.

    In GradCache only the third pass has a graph, so it is that one which keeps less.
    Raises ConfigError for models that cannot (static ones).
    """
    if not wanted:
        yield
        return
    if encoder.is_static:
        raise ConfigError(f"--gradient-checkpointing: {encoder.name} is a static model without layers; train without")
    transformer = encoder.model[0].model
    with _old_name():
        try:
            transformer.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError as error:
            raise ConfigError(f"--gradient-checkpointing: {encoder.name} cannot: {error}") from None
    transformer.disable_input_require_grads()  # for the reentrant kind; it would outlast the end below
    try:
        yield
    finally:
        with _old_name():
            transformer.gradient_checkpointing_disable()


@contextmanager
def _old_name() -> Iterator[None]:
    """transformers 5 knows this name in all of its releases; late ones warn that 6 will not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
