"""The configuration: one strict pydantic model per stage, read from YAML with command-line flags on top.

Flags win over the file. An unknown key is an error that names the nearest known one; all errors are reported at once.
A key that is there twice is an error, too, reported by itself.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from bessemer.config.documents import ChunkingConfig, ColumnsConfig, SplitConfig
from bessemer.config.export import ExportConfig
from bessemer.config.finetune import FinetuneConfig
from bessemer.config.index import IndexConfig
from bessemer.config.llm import LLMConfig
from bessemer.config.negatives import NegativesConfig
from bessemer.config.questions import QuestionsConfig
from bessemer.config.section import Section, with_home
from bessemer.config.serve import ServeConfig
from bessemer.config.tasks import PromptsConfig, TaskConfig
from bessemer.config.teacher import TeacherConfig
from bessemer.config.yaml_loader import load_yaml
from bessemer.errors import ConfigError

__all__ = [
    "ChunkingConfig",
    "ColumnsConfig",
    "Config",
    "EvaluationConfig",
    "ExportConfig",
    "FinetuneConfig",
    "IndexConfig",
    "LLMConfig",
    "NegativesConfig",
    "PromptsConfig",
    "QuestionsConfig",
    "Section",
    "ServeConfig",
    "SplitConfig",
    "TaskConfig",
    "TeacherConfig",
    "load_config",
]


class EvaluationConfig(Section):
    measures: tuple[str, ...] = (
        *(f"{name}@{k}" for name in ("Success", "P", "R") for k in (1, 3, 5, 10)), "R@100",
        "RR@10", "nDCG@10", "AP@100",
    )  # fmt: skip
    general: str | None = Field(
        None, description="BEIR folder of the general set, or none; unset: the demo's docstring pairs"
    )
    general_margin: float = Field(0.01, ge=0, description="nDCG@10 that the tuned model may lose on the general set")
    top_k: int = Field(100, ge=100, description="passages retrieved per query, which R@100 and fusion look at")
    bootstrap_samples: int = Field(10_000, ge=100, description="resamples behind each interval")

    _paths = field_validator("general")(with_home)

    @model_validator(mode="after")
    def _is_deep_enough(self) -> EvaluationConfig:
        deeper = [name for name in self.measures if int((re.findall(r"@(\d+)$", name) or [0])[0]) > self.top_k]
        if deeper:
            raise ValueError(f"measures: {', '.join(deeper)} look at more passages than top_k retrieves ({self.top_k})")
        return self


class Runtime(TypedDict):
    device: str | None
    trust_remote_code: str | None


class Config(Section):
    """Everything that ``bessemer adapt`` and its parts can be told."""

    source: str | None = Field(None, description="file or folder of documents")
    data: str | None = Field(None, description="BEIR folder, BGE JSONL, TSV of pairs, Parquet, ... or hf:NAME[:SUBSET]")
    columns: ColumnsConfig | None = Field(
        None, description="column mapping of a dataset, as {query: question, positives: context.contexts}"
    )
    task: str = Field("", description="whose prompts stand before the texts (docs/tasks.md); unset: the model's own")
    tasks: tuple[TaskConfig, ...] = Field(
        (), description="finetune: several datasets in place of data, as [{data: a, task: qa}, {data: b}]"
    )
    prompts: Mapping[str, PromptsConfig] = Field(
        {}, description="your own tasks, as {faq: {query: 'Question: ', passage: 'Answer: '}}"
    )
    queries: str | None = Field(None, description="JSONL of your own queries: text, and passage_id or source")
    model: str = Field("minilm", description="name, alias or folder of the base model")
    out: str = Field("out", description="folder to write to")
    workspace: str = Field(".bessemer", description="folder of finished steps and caches")
    seed: int = Field(42, ge=0, lt=2**32, description="of splits, draws and training")
    device: str | None = Field(None, description="cpu, cuda, mps; unset: the best there is")
    trust_remote_code: str | None = Field(None, description="the revision whose remote code may run; unset: none")
    final_fit: bool = Field(False, description="after a `ship`, train once more on all passages with the same settings")
    chunking: ChunkingConfig = ChunkingConfig()
    split: SplitConfig = SplitConfig()
    llm: LLMConfig = LLMConfig()
    questions: QuestionsConfig = QuestionsConfig()
    negatives: NegativesConfig = NegativesConfig()
    teacher: TeacherConfig = TeacherConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    index: IndexConfig = IndexConfig()
    export: ExportConfig = ExportConfig()
    serve: ServeConfig = ServeConfig()

    _paths = field_validator("source", "data", "queries", "model", "out", "workspace")(with_home)

    @property
    def workspace_folder(self) -> Path:
        return Path(self.workspace)

    @property
    def runtime(self) -> Runtime:
        """Where a model runs that is named by something else, an index say, and whose code it may run."""
        return {"device": self.device, "trust_remote_code": self.trust_remote_code}

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.final_fit and self.finetune.frozen_passages:
            raise ValueError("final_fit mixes whole models; it does not go with finetune.frozen_passages")
        return self


def load_config(
    path: str | Path | None = None, flags: Mapping[str, Any] | None = None, names: Mapping[str, str] | None = None
) -> Config:
    """Read ``path`` (YAML) and lay ``flags`` over it; dotted flag names reach into sections.

    Flags whose value is None were not given. ``names`` are how a command line calls keys, where not by their last
    part. Raises ConfigError naming file, key and fix for every fault.
    """
    values: dict[str, Any] = _read_yaml(Path(path)) if path else {}
    for name, value in (flags or {}).items():
        if value is not None:
            _set(values, name.split("."), value, str(path))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        given = {
            key: (names or {}).get(key, key.split(".")[-1]) for key, value in (flags or {}).items() if value is not None
        }
        raise ConfigError("\n".join(_explain(fault, str(path or "flags"), given) for fault in error.errors())) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = load_yaml(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check --config") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bad UTF-8, and dates like 2026-13-45
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: the top level must be `key: value` lines, not {type(values).__name__}")
    return {key: _filled(key, value) for key, value in values.items()}


def _filled(key: Any, value: Any) -> Any:
    """A section whose every line is commented out reads as null: it has no keys."""
    field = Config.model_fields.get(key) if isinstance(key, str) else None
    return {} if value is None and field and isinstance(field.default, Section) else value


def _set(values: dict[str, Any], keys: list[str], value: Any, file: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{file}: {key}: must be a section of `key: value` lines")
    values[keys[-1]] = value


def _explain(fault: Any, file: str, flags: Mapping[str, str]) -> str:
    """One fault in a line; what came from a flag is called by the flag's name: ``flags`` is key -> name."""
    location = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        flag = _flag_at(fault["loc"], flags)
        where = "--" + flag.replace("_", "-") if flag else f"{file}: {location}".rstrip(": ")
        given = "" if isinstance(fault["input"], Mapping) else f" (given: {fault['input']!r})"  # of a whole section
        return f"{where}: {fault['msg'].removeprefix('Value error, ')}{given}"
    known = _keys_at(fault["loc"][:-1])
    nearest = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
    hint = f"did you mean `{nearest[0]}`?" if nearest else f"known: {', '.join(sorted(known))}"
    return f"{file}: {location}: unknown key; {hint}"


def _flag_at(location: tuple[Any, ...], flags: Mapping[str, str]) -> str | None:
    """The flag of the key there, or of that of which it is a part: lists and tables have faults below their key."""
    keys = [".".join(map(str, location[:n])) for n in range(len(location), 0, -1)]
    return next((flags[key] for key in keys if key in flags), None)


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    section: Any = Config
    for part in location:
        origin = typing.get_origin(section)
        if origin is not None:  # tuple[Section, ...] or Mapping[str, Section]
            section = typing.get_args(section)[0 if origin is tuple else 1]
            continue
        section = section.model_fields[part].annotation
        if isinstance(section, types.UnionType):
            section = next(a for a in typing.get_args(section) if a is not type(None))
    return list(section.model_fields)
