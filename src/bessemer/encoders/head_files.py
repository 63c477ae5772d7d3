"""The heads of a unified model on disk, beside the files of its dense model.

Ours: ``unified.safetensors`` (both heads) and ``unified.json`` (settings). BGE-M3's: ``sparse_linear.pt`` and
``colbert_linear.pt``. Both are written, so that FlagEmbedding opens the folder; ours is read where it is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bessemer.config.section import Section
from bessemer.encoders.token_vectors import Precision
from bessemer.encoders.unified_heads import UnifiedHeads
from bessemer.encoders.unified_settings import LaneWeights, UnifiedSettings
from bessemer.errors import ArtifactError

WEIGHTS, SETTINGS = "unified.safetensors", "unified.json"
SPARSE, COLBERT = "sparse_linear.pt", "colbert_linear.pt"
OUR_LAYOUT, BGE_LAYOUT = (WEIGHTS, SETTINGS), (SPARSE, COLBERT)
FORMAT = 1


class _DescribedLanes(Section):
    dense: float
    sparse: float
    multi_vector: float


class _Described(Section):
    """``unified.json``."""

    format: Literal[1]
    multi_vector_dimension: int = Field(ge=1)
    special_token_ids: tuple[int, ...]
    lane_weights: _DescribedLanes
    top_weights: int = Field(ge=1)
    multi_vector_precision: Precision


def write_heads(folder: Path, heads: UnifiedHeads, settings: UnifiedSettings) -> None:
    """Write both layouts into the folder of the dense model."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in heads.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    described = {
        "format": FORMAT,
        "multi_vector_dimension": heads.multi_vector.out_features,
        "special_token_ids": heads.special_ids.tolist(),
        **asdict(settings),
        "lane_weights": settings.lane_weights._asdict(),
    }
    (folder / SETTINGS).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    for name, part in ((SPARSE, "sparse"), (COLBERT, "multi_vector")):
        torch.save({key: weights[f"{part}.{key}"] for key in ("weight", "bias")}, folder / name)


def has_heads(folder: Path) -> bool:
    """Whether any head file lies in ``folder``, be it one too few."""
    return any((folder / name).is_file() for name in (*OUR_LAYOUT, *BGE_LAYOUT))


def read_heads(
    folder: Path, hidden_size: int, special_ids: list[int], vocabulary_size: int
) -> tuple[UnifiedHeads, UnifiedSettings]:
    """The heads in ``folder`` for a transformer of ``hidden_size``, and their settings.

    ``special_ids`` are the tokenizer's, for BGE-M3's layout, which names none. Raises ArtifactError, naming the file,
    where one of a pair is missing, is damaged, or is of another model.
    """
    ours = any((folder / name).is_file() for name in OUR_LAYOUT)
    _refuse_half(folder, OUR_LAYOUT if ours else BGE_LAYOUT)
    settings = UnifiedSettings()
    if ours:
        settings, special_ids = _read_settings(folder / SETTINGS)
        weights = _read(folder / WEIGHTS)
    else:
        parts = {"sparse": _read(folder / SPARSE), "multi_vector": _read(folder / COLBERT)}
        weights = {f"{part}.{key}": tensor for part, tensors in parts.items() for key, tensor in tensors.items()}
    _refuse_other_sizes(folder / WEIGHTS if ours else folder, weights, hidden_size)
    if any(not 0 <= i < vocabulary_size for i in special_ids):
        raise ArtifactError(f"{folder / SETTINGS}: special_token_ids are not this model's; save the model again")
    heads = UnifiedHeads(hidden_size, len(weights["multi_vector.bias"]), special_ids)
    heads.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return heads, settings


def _refuse_half(folder: Path, layout: tuple[str, str]) -> None:
    present = [name for name in layout if (folder / name).is_file()]
    if len(present) == 1:
        missing = layout[1 - layout.index(present[0])]
        fix = f"copy the whole model again, or remove {present[0]} to use the dense model alone"
        raise ArtifactError(f"{folder}: has {present[0]} but not {missing}; {fix}")


def _read(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has a kind for every damage
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ArtifactError(f"{file}: cannot be read ({cause}); copy the model again") from None
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ArtifactError(f"{file}: does not hold the weight and bias of a linear layer; copy the model again")
    return tensors


def _refuse_other_sizes(source: Path, weights: Mapping[str, Tensor], hidden_size: int) -> None:
    """Names and shapes: sparse (1, h) and (1,), multi_vector (m, h) and (m,)."""
    dimension = len(weights.get("multi_vector.bias", torch.empty(0)).reshape(-1))
    expected = {
        "sparse.weight": (1, hidden_size),
        "sparse.bias": (1,),
        "multi_vector.weight": (dimension, hidden_size),
        "multi_vector.bias": (dimension,),
    }
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if found != expected or dimension == 0:
        raise ArtifactError(
            f"{source}: heads of shapes {found} do not fit a model of hidden size {hidden_size}; "
            "put the model's own head files there, or remove them to use the dense model alone"
        )


def _read_settings(file: Path) -> tuple[UnifiedSettings, list[int]]:
    """The settings and the ids of special tokens."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
            raise ArtifactError(
                f"{file}: format {found['format']} is not known here (known: {FORMAT}); update bessemer"
            )
        described = _Described.model_validate(found)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"])) or "the whole"
        raise ArtifactError(f"{file}: {field}: {fault['msg']}; copy the model again") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: damaged ({type(error).__name__}: {error}); copy the model again") from None
    lanes = LaneWeights(**described.lane_weights.model_dump())
    settings = UnifiedSettings(lanes, described.top_weights, described.multi_vector_precision)
    return settings, list(described.special_token_ids)
