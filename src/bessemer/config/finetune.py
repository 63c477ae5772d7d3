"""Of training."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from bessemer.config.section import Section

_NO_NUMBER = (TypeError, ValueError, OverflowError)
"""What int and float raise for a blank, a word or an infinity."""


def _number_or_auto(value: Any) -> Any:
    try:
        if value == "auto" or (int(value) == float(value) and int(value) >= 2):
            return value if value == "auto" else int(value)
    except _NO_NUMBER:
        pass
    raise ValueError("give auto, or a whole number from 2 up")


def _positive_or_auto(value: Any) -> Any:
    try:
        if value == "auto" or 0 < float(value) < math.inf:
            return value if value == "auto" else float(value)
    except _NO_NUMBER:
        pass
    raise ValueError("give auto, or a number above 0")


BatchSize = Annotated[int | Literal["auto"], BeforeValidator(_number_or_auto)]
TeacherTemperature = Annotated[float | Literal["auto"], BeforeValidator(_positive_or_auto)]
Head = Literal["dense", "sparse", "multi", "unified"]
DENSE_ONLY = ("matryoshka_dims", "symmetric", "same_tower_negatives", "frozen_passages")
"""Options that need one vector per text."""
START_OF_DISTILLATION = 0.1
LOSSES_OF_HEADS = (None, "info_nce", "distillation")
SAMPLING = {"size": 1.0, "round_robin": 0.0}
OF_COSINES, OF_DOT_PRODUCTS = 0.05, 1.0
"""Temperatures. Cosines are at most 2 apart; products of vectors of any length are far apart as they are."""


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
    temperature: float | None = Field(
        None, gt=0, description="logits = score / temperature; unset: 0.05 for cosines, 1 for dot products and SPLADE"
    )
    teacher_temperature: TeacherTemperature = Field(
        "auto", description="distillation: weights = softmax(teacher score / this); auto: by teacher_candidates"
    )
    teacher_candidates: float | None = Field(
        None, gt=1, description="exp(entropy) of the median query's weights, for auto; unset: root of its candidates"
    )
    info_nce_weight: float = Field(0.2, ge=0, description="distillation, margin_mse: weight of info_nce beside them")
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
    batch_relative_margin: float | None = Field(
        None,
        gt=0,
        description="the same above this times the positive; where that is <= 0, batch_margin (0 if unset) serves",
    )
    guide: str | None = Field(
        None, description="model by whose scores both margins go (unset: 0), in place of the trained one's"
    )
    head: Head | None = Field(
        None,
        description="what trains: dense vectors; sparse or multi (token vectors) alone; unified: all three; unset: the "
        "one that a SPLADE or ColBERT model has, else dense",
    )
    freeze_encoder: bool = Field(False, description="sparse, multi, unified: the heads alone train")
    self_distillation: bool = Field(False, description="unified: each part also learns from the sum of all")
    self_distillation_start: float = Field(
        START_OF_DISTILLATION,
        ge=0,
        description="a count of steps, or a share when below 1; until then each learns by itself alone",
    )
    flops_query: float | None = Field(
        None,
        ge=0,
        description="sparse: weight of the FLOPS of queries (docs/unified.md); unset: 0, SPLADE 5e-5",
    )
    flops_passage: float | None = Field(None, ge=0, description="the same of passages; unset: 0, SPLADE 3e-5")
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
        if self.frozen_passages and (self.exclude_same_document or self.loss == "triplet"):
            message = "frozen_passages: its negatives come from the whole corpus for all queries of a batch together"
            raise ValueError(f"{message}; leave exclude_same_document and loss triplet out")
        if not self.n_negatives and (self.refresh_steps or self.loss == "triplet"):
            raise ValueError("n_negatives 0: refresh_steps and loss triplet need hard negatives; give 1 or more")
        return self

    @model_validator(mode="after")
    def _what_heads_know(self) -> FinetuneConfig:
        if self.trained_head != "sparse" and (self.flops_query is not None or self.flops_passage is not None):
            raise ValueError("flops_query, flops_passage: keep sparse weights sparse; give head sparse, or leave out")
        if self.self_distillation and self.trained_head != "unified":
            raise ValueError("self_distillation: the lanes of head unified teach each other; give that, or leave it")
        if self.self_distillation_start != START_OF_DISTILLATION and not self.self_distillation:
            raise ValueError("self_distillation_start: nothing starts without self_distillation; give that, too")
        if self.trained_head == "dense":
            if self.freeze_encoder:
                raise ValueError("freeze_encoder leaves nothing to train without heads; give head unified, or leave it")
            return self
        asked = [name for name in DENSE_ONLY if getattr(self, name)]
        if asked:
            raise ValueError(f"{', '.join(asked)}: for head dense only; leave out with head {self.head}")
        if self.screens_batches and self.guide is None:
            message = f"batch_margin, batch_relative_margin: go by a guide's scores with head {self.head}"
            raise ValueError(f"{message}; name a guide")
        if self.loss not in LOSSES_OF_HEADS:
            raise ValueError(f"loss {self.loss}: head {self.head} trains by info_nce or distillation")
        if self.freeze_encoder and (self.lora_rank or self.gradient_checkpointing):
            raise ValueError("freeze_encoder: leave lora_rank and gradient_checkpointing out, which train the encoder")
        return self

    @property
    def trained_head(self) -> Head:
        """What is asked for, else dense: `settled_for_kind` has asked for what another kind of model has."""
        return self.head or "dense"

    @property
    def screens_batches(self) -> bool:
        """Whether a margin tells false negatives of a batch."""
        return self.batch_margin is not None or self.batch_relative_margin is not None

    def temperature_of(self, *, normalised: bool) -> float:
        """The temperature asked for, else the default of scores that are cosines (``normalised``) or dot products."""
        return self.temperature or (OF_COSINES if normalised else OF_DOT_PRODUCTS)

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
        except _NO_NUMBER:
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
