"""The weights of a model by name: a copy of them, and putting them back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from bessemer.errors import ArtifactError


def copied_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights by name; tied ones under each of their names."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def put_weights(model: nn.Module, name: str, weights: Mapping[str, Tensor]) -> None:
    """Raises ArtifactError, which says ``name``, when names or shapes are not the model's."""
    try:
        model.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        raise ArtifactError(f"weights do not fit {name}: {error}") from None
