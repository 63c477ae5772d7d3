"""LoRA (Hu et al. 2021, 2106.09685): weights stay as they are, and beside each trains a product of two thin matrices.

It exists while training only: before and after, the encoder is a plain model that needs no peft.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError
from bessemer.training.freezing import head_parameters

log = logging.getLogger("bessemer")

LORA_LEARNING_RATE = 5e-4
"""With alpha = 2 * rank, as in the authors' own run of RoBERTa-base (microsoft/LoRA, NLU/roberta_base_mnli.sh)."""
DROPOUT = 0.05
"""Before the thin matrices; QLoRA (2305.14314) takes 0.05 to 0.1."""
ADAPTER = "default"

Adapted = tuple[nn.Module, str, Any]  # parent, name in it, peft's layer around the linear one


@contextmanager
def lora(encoder: Trainable, config: FinetuneConfig, seed: int) -> Iterator[None]:
    """Within it only adapters train, one beside every linear layer of attention and MLP, drawn by ``seed``, and heads
    where there are any; at its end, also after an error, they are added to the weights and gone. With rank 0 nothing
    happens.

    Raises ConfigError for a model without linear layers (static ones), and without peft.
    """
    if not config.lora_rank:
        yield
        return
    trained = [parameter for parameter in encoder.model.parameters() if parameter.requires_grad]
    attributes = set(vars(_transformer(encoder)))
    try:
        _inject(encoder, config, seed)
        yield
    finally:
        _merge(_adapted(encoder))
        for name in vars(_transformer(encoder)).keys() - attributes:  # peft notes its configuration on the model
            delattr(_transformer(encoder), name)
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def merged(encoder: Trainable) -> Iterator[None]:
    """Within it the encoder is the plain model that saving would leave, to be measured or mined with in mid-training.

    Afterwards the weights are what they were, to the bit: they are put back, since taking the product away again would
    round. A second copy of the adapted weights is held for that long. Without adapters nothing happens.
    """
    adapted = _adapted(encoder)
    own = [layer.base_layer.weight.detach().clone() for _, _, layer in adapted]
    _merge(adapted)
    try:
        yield
    finally:
        for (parent, name, layer), weight in zip(adapted, own, strict=True):
            with torch.no_grad():
                layer.base_layer.weight.copy_(weight)
            setattr(parent, name, layer)


def _inject(encoder: Trainable, config: FinetuneConfig, seed: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError('--lora-rank needs peft: pip install "bessemer[lora]"') from None
    names = _linear_layers(encoder)
    if not names:
        raise ConfigError(f"--lora-rank: {encoder.name} has no linear layers to adapt; train it without")
    encoder.model.requires_grad_(False)  # modules after the transformer, too
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        lora_dropout=DROPOUT,
        target_modules=names,
    )
    torch.manual_seed(seed)
    inject_adapter_in_model(settings, _transformer(encoder), ADAPTER)
    for parameter in head_parameters(encoder):
        parameter.requires_grad_(True)
    parameters = list(encoder.model.parameters())
    n_trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    log.info(
        "training: LoRA of rank %d on %d layers: %s weights train, %s stay",
        *(config.lora_rank, len(names), f"{n_trained:,}", f"{sum(p.numel() for p in parameters) - n_trained:,}"),
    )


def _transformer(encoder: Trainable) -> Any:
    first: Any = encoder.model[0]
    return first if encoder.is_static else first.model


def _linear_layers(encoder: Trainable) -> list[str]:
    """Those of attention and MLP (QLoRA: adapting all of them is what matches full training). A pooler head is not
    among them: no embedding passes through it. Nor is the output over the vocabulary, whose weights are mostly the
    token table's: what is added to one would be added to both."""
    transformer = _transformer(encoder)
    output = None if encoder.is_static else transformer.get_output_embeddings()
    named = transformer.named_modules()
    return [
        name
        for name, module in named
        if isinstance(module, nn.Linear) and module is not output and "pooler" not in name.split(".")
    ]


def _adapted(encoder: Trainable) -> list[Adapted]:
    return [
        (parent, name, child)
        for parent in encoder.model.modules()
        for name, child in parent.named_children()
        if hasattr(child, "base_layer") and hasattr(child, "get_delta_weight")
    ]


def _merge(adapted: Sequence[Adapted]) -> None:
    """Linear layers in place of peft's, the product added to their weights."""
    with torch.no_grad():
        for parent, name, layer in adapted:
            layer.base_layer.weight.add_(layer.get_delta_weight(ADAPTER))
            setattr(parent, name, layer.base_layer)
