"""The configuration: one strict pydantic model per stage, read from YAML with command-line flags on top.

Flags win over the file. An unknown key is an error that names the nearest known one; all errors are reported at once.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from bessemer.errors import ConfigError


class Section(BaseModel):
    """Strict base: unknown keys are errors, values are immutable, numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class ColumnsConfig(Section):
    """Columns of a dataset that holds none of the known layouts. Dotted paths; lists are exploded."""

    query: str = Field(description="such as question")
    positives: str = Field(description="a text or a list of texts, such as context.contexts")
    negatives: tuple[str, ...] = Field((), description="columns of texts or lists of texts")
    answers: str | None = Field(None, description="reference answers")
    query_id: str | None = Field(None, description="ids; unset: hashes of the texts")


class ChunkingConfig(Section):
    """Documents to passages. Lengths are tokens of the target model."""

    max_tokens: int | None = Field(
        None, ge=16, description="passage length with its headings; unset: the model's limit"
    )
    min_tokens: int = Field(8, ge=1, description="shorter passages are merged into a neighbour, or dropped and counted")
    near_duplicates: float = Field(
        0.9, gt=0, le=1, description="Jaccard similarity from which a passage is a duplicate"
    )
    max_file_mib: int = Field(64, ge=1, description="larger files are skipped and counted")


class SplitConfig(Section):
    """Shares of documents (or near-duplicate clusters) held out."""

    dev: float = Field(0.1, gt=0, lt=0.5, description="share on which checkpoints and weights are chosen")
    test: float = Field(0.2, gt=0, lt=0.5, description="share on which the verdict is reached")


class QuestionsConfig(Section):
    strategy: Literal["extract"] = "extract"
    per_passage: int = Field(2, ge=1, description="at most this many questions for a training passage")
    per_test_passage: int = Field(1, ge=1, description="at most this many for a dev or test passage")


class NegativesConfig(Section):
    """Hard negatives (docs/negatives.md). Scores are similarities of the mining model."""

    strategy: str = Field("top_k", description="top_k, random, simans, same_document, bm25 or mixed")
    n_negatives: int = Field(4, ge=0, description="negatives kept per query")
    candidates: Literal["dense", "bm25", "hybrid"] = Field("dense", description="who finds them, for top_k and simans")
    anchor: Literal["query", "positive"] = Field("query", description="whose neighbours, for top_k, simans and bm25")
    range_min: int = Field(0, ge=0, description="first rank considered, counted after positives are taken out")
    range_max: int = Field(100, ge=1, description="rank at which the window ends")
    simans_a: float = Field(0.5, gt=0, description="simans: how sharply the draw prefers scores near positive + b")
    simans_b: float = Field(0.0, description="simans: below 0, draws favour candidates less close than the positive")
    shares: Mapping[str, float] = Field(
        {"top_k": 0.5, "same_document": 0.25, "random": 0.25}, description="mixed: strategy -> share of n_negatives"
    )
    relative_margin: float | None = Field(
        None, ge=0, description="drop when score > margin * lowest positive score; unset: 0.95 (simans: off); 0: off"
    )
    absolute_margin: float | None = Field(None, description="drop when score > lowest positive score - margin")
    reranker: str | None = Field(None, description="cross-encoder that drops what it scores as high as a positive")

    @field_validator("shares", mode="before")
    @classmethod
    def _shares_of_a_flag(cls, value: Any) -> Any:
        """``top_k=0.5,random=0.5``, as a command line gives them."""
        return dict(part.split("=", 1) for part in value.split(",") if "=" in part) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _possible(self) -> NegativesConfig:
        if self.range_max <= self.range_min:
            raise ValueError("range_max must be greater than range_min")
        if not self.shares or min(self.shares.values()) <= 0:
            raise ValueError("shares must be strategy=share pairs with shares above 0, such as top_k=0.5,random=0.5")
        if "mixed" in self.shares:
            raise ValueError("shares cannot hold `mixed` itself")
        return self


def _number_or_auto(value: Any) -> Any:
    try:
        if value == "auto" or (int(value) == float(value) and int(value) >= 2):
            return value if value == "auto" else int(value)
    except (TypeError, ValueError):
        pass
    raise ValueError("give auto, or a whole number from 2 up")


BatchSize = Annotated[int | Literal["auto"], BeforeValidator(_number_or_auto)]
SAMPLING = {"size": 1.0, "round_robin": 0.0}


class FinetuneConfig(Section):
    """Training; names as in Hugging Face's TrainingArguments where they exist there."""

    learning_rate: float | None = Field(None, gt=0, description="unset: 5e-5; 5e-4 with LoRA; 1e-2 for static models")
    num_train_epochs: float = Field(4.0, gt=0, description="upper bound; early stopping ends sooner")
    max_steps: int = Field(-1, ge=-1, description="total steps; -1 = by epochs")
    per_device_train_batch_size: BatchSize = Field(
        64, description="queries per step, whose passages are negatives; auto: by the data and the device"
    )
    warmup_steps: float = Field(0.1, ge=0, description="a count, or a share when below 1")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="longer gradients are cut to this norm")
    lr_scheduler_type: Literal["linear", "cosine", "polynomial", "constant", "constant_with_warmup"] = "linear"
    loss: str | None = Field(
        None, description="docs/losses.md; unset: info_nce, for scored pairs cosent, for labelled ones contrastive"
    )
    temperature: float = Field(0.05, gt=0, description="logits = score / temperature")
    symmetric: bool = Field(False, description="info_nce: also from each positive to the queries")
    same_tower_negatives: bool = Field(False, description="info_nce: other queries and passages, too")
    hardness_beta: float = Field(1.0, ge=0, description="hardness: weight of a negative grows as exp(beta * score)")
    class_prior: float = Field(0.0, ge=0, lt=1, description="hardness: share of negatives that are false ones")
    n_synthetic: int = Field(8, ge=0, description="mochi: negatives mixed from two hard ones, per query")
    n_synthetic_with_query: int = Field(4, ge=0, description="mochi: negatives mixed from a hard one and the query")
    loss_margin: float = Field(
        0.5, gt=0, description="contrastive, triplet: cosine distance that is enough between what does not belong"
    )
    exclude_same_document: bool = Field(False, description="passages of the positive's document are no negatives")
    batch_margin: float | None = Field(
        None, description="no negative in a batch scores above its query's positive less this; unset: off"
    )
    guide: str | None = Field(
        None, description="model by whose scores batch_margin (then 0 if unset) goes, in place of the trained one's"
    )
    matryoshka_dims: tuple[int, ...] = Field((), description="further widths at which the vectors shall serve")
    n_negatives: int = Field(1, ge=0, description="hard negatives per query and batch")
    refresh_steps: float = Field(
        0, ge=0, description="mine anew with the current weights every so many steps (a share below 1); 0: never"
    )
    frozen_passages: bool = Field(
        False, description="train the query side alone, on n_negatives retrieved anew in each step (ADORE)"
    )
    max_length: int | None = Field(None, ge=8, description="tokens of a passage; unset: the model's limit, at most 512")
    query_max_length: int | None = Field(None, ge=8, description="tokens of a query; unset: as max_length")
    max_train_queries: int | None = Field(None, ge=1, description="a seeded sample of the train queries; stated")
    bf16: bool | None = Field(None, description="unset: where the hardware has it")
    fp16: bool = Field(False, description="on a GPU without bf16: half precision with a scaled loss")
    gradient_checkpointing: bool = Field(False, description="less memory for one forward pass more")
    lora_rank: int = Field(0, ge=0, description="train adapters of this rank, not the weights (needs peft); 0: off")
    lora_alpha: int | None = Field(None, ge=1, description="adapters count alpha / rank times; unset: 2 * rank")
    eval_steps: float = Field(0.25, gt=0, description="a count, or a share of all steps when below 1")
    save_total_limit: int = Field(2, ge=1, description="checkpoints kept; the best is never the one to go")
    early_stopping_patience: int = Field(2, ge=1, description="evaluations without a better dev figure")
    mini_batch_tokens: int | None = Field(
        None, ge=64, description="padded tokens encoded at once inside a batch; unset: 1024 on a CPU, 65536 on a GPU"
    )
    interpolation: bool = Field(True, description="mix the weights with the base's, the share chosen on dev")
    task_sampling: str = Field(
        "size", description="of several tasks: size, round_robin, or a number a: batches in proportion to size ** a"
    )

    logging_steps: float | None = Field(None, gt=0, description="a count, or a share below 1; unset: a fiftieth of all")
    report_to: tuple[str, ...] = Field((), description="trackers: tensorboard, wandb, mlflow, ...")
    run_name: str | None = Field(None, description="of this run in the trackers")

    @model_validator(mode="after")
    def _one_source_of_negatives(self) -> FinetuneConfig:
        if self.frozen_passages and (self.refresh_steps or self.guide):
            raise ValueError("frozen_passages retrieves negatives in every step; leave refresh_steps and guide out")
        return self

    @property
    def sampling_alpha(self) -> float:
        """The exponent that ``task_sampling`` names: batches of a task grow as its number of examples to this."""
        return SAMPLING[self.task_sampling] if self.task_sampling in SAMPLING else float(self.task_sampling)

    @model_validator(mode="after")
    def _one_precision(self) -> FinetuneConfig:
        if self.fp16 and self.bf16:
            raise ValueError("fp16 and bf16 cannot both be on: give one")
        return self

    @field_validator("task_sampling", mode="before")
    @classmethod
    def _known_sampling(cls, value: Any) -> str:
        try:
            known = str(value) in SAMPLING or 0 <= float(value) <= 1
        except ValueError:
            known = False
        if not known:
            raise ValueError("give size, round_robin or a number from 0 to 1")
        return str(value)

    @field_validator("matryoshka_dims", "report_to", mode="before")
    @classmethod
    def _list_of_a_flag(cls, value: Any) -> Any:
        """``256,128``, as a command line gives them; ``none`` is the empty one."""
        if not isinstance(value, str):
            return value
        return [part.strip() for part in value.split(",")] if value != "none" else []


class PromptsConfig(Section):
    query: str = Field("", description="put before every query; a trailing space belongs to it")
    passage: str = Field("", description="put before every passage")


class TaskConfig(Section):
    """One of several datasets that train together; what is unset here is as in the finetune section."""

    data: str = Field(description="as --data")
    name: str | None = Field(None, description="in reports; unset: the name of the file or folder")
    task: str = Field("", description="whose prompts: qa, tool, ... (docs/tasks.md) or a name under `prompts`")
    columns: ColumnsConfig | None = None
    loss: str | None = None
    temperature: float | None = Field(None, gt=0)
    per_device_train_batch_size: BatchSize | None = None
    n_negatives: int | None = Field(None, ge=0)
    max_length: int | None = Field(None, ge=8)
    query_max_length: int | None = Field(None, ge=8)
    max_train_queries: int | None = Field(None, ge=1)

    def settings(self, common: FinetuneConfig) -> FinetuneConfig:
        """``common`` with what this task says otherwise."""
        own = {name: value for name in FinetuneConfig.model_fields if (value := getattr(self, name, None)) is not None}
        return common.model_copy(update=own)


class EvaluationConfig(Section):
    measures: tuple[str, ...] = (
        *(f"{name}@{k}" for name in ("Success", "P", "R") for k in (1, 3, 5, 10)), "R@100",
        "RR@10", "nDCG@10", "AP@100",
    )  # fmt: skip
    general: str | None = Field(None, description="BEIR folder of the general set; unset: docstring pairs of the demo")
    general_margin: float = Field(0.01, ge=0, description="nDCG@10 that the tuned model may lose on the general set")
    top_k: int = Field(100, ge=1, description="passages retrieved per query")
    bootstrap_samples: int = Field(10_000, ge=100, description="resamples behind each interval")


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
    queries: str | None = Field(None, description="JSONL of your own queries for --source")
    model: str = Field("minilm", description="name, alias or folder of the base model")
    out: str = Field("out", description="folder to write to")
    workspace: str = Field(".bessemer", description="folder of finished steps and caches")
    seed: int = Field(42, description="of splits, draws and training")
    device: str | None = Field(None, description="cpu, cuda, mps; unset: the best there is")
    trust_remote_code: str | None = Field(None, description="the revision whose remote code may run; unset: none")
    final_fit: bool = Field(False, description="after a `ship`, train once more on all passages with the same settings")
    chunking: ChunkingConfig = ChunkingConfig()
    split: SplitConfig = SplitConfig()
    questions: QuestionsConfig = QuestionsConfig()
    negatives: NegativesConfig = NegativesConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _possible(self) -> Config:
        if self.final_fit and self.finetune.frozen_passages:
            raise ValueError("final_fit mixes whole models; it does not go with finetune.frozen_passages")
        return self


def load_config(path: str | Path | None = None, flags: Mapping[str, Any] | None = None) -> Config:
    """Read ``path`` (YAML) and lay ``flags`` over it; dotted flag names reach into sections.

    Flags whose value is None were not given. Raises ConfigError naming file, key and fix for every fault.
    """
    values: dict[str, Any] = _read_yaml(Path(path)) if path else {}
    for name, value in (flags or {}).items():
        if value is not None:
            _set(values, name.split("."), value, str(path))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        given = {name for name, value in (flags or {}).items() if value is not None}
        raise ConfigError("\n".join(_explain(fault, str(path or "flags"), given) for fault in error.errors())) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
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


def _explain(fault: Any, file: str, flags: Set[str]) -> str:
    """One fault in a line; what came from a flag is called by the flag's name."""
    location = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        where = "--" + location.split(".")[-1].replace("_", "-") if location in flags else f"{file}: {location}"
        return f"{where}: {fault['msg'].removeprefix('Value error, ')} (given: {fault['input']!r})"
    known = _keys_at(fault["loc"][:-1])
    nearest = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
    hint = f"did you mean `{nearest[0]}`?" if nearest else f"known: {', '.join(sorted(known))}"
    return f"{file}: {location}: unknown key; {hint}"


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    section: Any = Config
    for part in location:
        annotation = section.model_fields[part].annotation
        if isinstance(annotation, types.UnionType):
            annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
        section = annotation
    return list(section.model_fields)
