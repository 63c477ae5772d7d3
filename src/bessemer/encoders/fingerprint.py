"""The identity of a model: what it computes, not where it lies."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

_VOLATILE_CONFIG = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")


def model_fingerprint(model: SentenceTransformer, tokenizer_json: str, settings: dict[str, Any]) -> str:
    """sha256 (hex) over weights, architecture, tokenizer, module configuration and ``settings`` (prompts, similarity).

    Saving and loading a model keeps it. An unused pooler head is left out: a checkpoint may lack it, and then it is
    drawn at random at every load.
    """
    digest = hashlib.sha256()
    described = {"modules": [_describe(module) for module in model], "settings": settings}
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    digest.update(tokenizer_json.encode())
    for name, tensor in sorted(model.state_dict().items()):
        if ".pooler." in name:
            continue
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {data.dtype} {tuple(data.shape)}".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _describe(module: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"type": type(module).__name__}
    if hasattr(module, "auto_model"):
        config = module.auto_model.config.to_dict()
        described["config"] = {key: value for key, value in config.items() if key not in _VOLATILE_CONFIG}
    elif getattr(module, "config_keys", None):
        described["config"] = module.get_config_dict()
    return described
