"""Queries whose candidates a teacher has scored, as a task of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.encoders.trainable import Trainable
from bessemer.errors import DataError, Problem
from bessemer.training.batches import TrainingData, write_batch
from bessemer.training.losses import Calibration, teacher_loss
from bessemer.training.margin_spread import margin_spreads
from bessemer.training.preflight import require_teachable
from bessemer.training.tasks import Batch, RetrievalTask, sides
from bessemer.training.teacher_scores import FIX, teacher_scores
from bessemer.training.teacher_temperature import settled_temperature


class DistillationTask(RetrievalTask):
    """Retrieval whose loss is the teacher's, plus ``info_nce_weight`` times InfoNCE with the positive.

    An example is a query with its positive, or, where none is judged, with the teacher's best candidate, and
    ``n_negatives`` of its other scored candidates, drawn anew each epoch where there are more. An example whose
    positive has no teacher score is trained by InfoNCE alone.

    InfoNCE is needed beside losses of a query's own candidates, which say nothing of the rest of the corpus. Its weight
    is small by default, since it pushes away what the teacher holds nearly as good as the positive.
    """

    def __init__(self, data: TrainingData, encoder: Trainable, config: FinetuneConfig, seed: int) -> None:
        """Raises DataError for data without teacher scores, or with examples that nothing is learnt from; ConfigError
        for settings that do not fit."""
        settings = data.settings or config
        loss = settings.loss or ""
        require_teachable(settings)
        self._teacher = teacher_scores(data, loss)
        hard = settings.model_copy(update={"loss": None})
        own = replace(self._teacher.data, settings=hard if data.settings else None)
        super().__init__(own, encoder, hard, seed)
        self._info_nce_weight = settings.info_nce_weight
        scored = [self._teacher.of(self.examples[i]) for i in range(len(self))]  # as the first epoch draws them
        self._n_unscored, self._n_alone = (sum(len(own) == n for own in scored) for n in (0, 1))
        where = f"train {self.name}".strip()
        if self._n_unscored and not self._info_nce_weight:
            raise DataError([self._unscored(i, where) for i, own in enumerate(scored) if not own])
        if not any(len(own) > 1 for own in scored):
            message = "no train query has two scored passages, one of them its positive"
            raise DataError([Problem(where, None, "teacher_scores", message, FIX)])
        self._calibrated, self._settled = self._calibration(scored, settings, where)
        normalised = self._encoder.similarity == "cosine"
        self._teacher_loss = teacher_loss(settings, self._calibrated, self._encoder.dimension, normalised=normalised)

    def _unscored(self, example: int, where: str) -> Problem:
        query, positive = self.examples.pairs[example]
        names = self.examples.queries[query].query_id, self.examples.passages[positive].passage_id
        message = "query {} has no score of its positive {}".format(*names)
        return Problem(where, None, "teacher_scores", message, "add it, or give info_nce_weight more than 0")

    def _calibration(
        self, scored: Sequence[Mapping[int, float]], config: FinetuneConfig, where: str
    ) -> tuple[Calibration, tuple[str, ...]]:
        """What the loss has to know of the training set, and a note of it."""
        if config.loss == "margin_mse":
            teacher, student = margin_spreads(self.examples, self._teacher.of, self._encoder, where)
            note = f"margins in units of {teacher:.4g} of the teacher's scores and {student:.4g} of the model's"
            return Calibration(teacher_spread=teacher, student_spread=student), (note,)
        compared = [tuple(own.values()) for own in scored if len(own) > 1]
        temperature = settled_temperature(config.teacher_temperature, config.teacher_candidates, compared)
        return Calibration(temperature=temperature.value), temperature.notes()

    def batch(self, examples: Sequence[int]) -> Batch:
        """``candidates`` and ``teacher`` (B, K) beside what retrieval has."""
        rows = [self.examples[i] for i in examples]
        batch = self.collator(rows)
        scores = self._teacher.in_batch(rows, batch["columns"].tolist())
        others = scores.pop("others")
        return {**batch, **scores, "excluded": batch["excluded"] | others}

    def loss(self, embeddings: Sequence[Tensor], batch: Batch) -> Tensor:
        given = (*sides(embeddings, batch), batch["positives"], batch["excluded"])
        loss = self._teacher_loss(*given, batch["candidates"], batch["teacher"])
        return loss + self._info_nce_weight * self._batch_loss(*given) if self._info_nce_weight else loss

    def write(self, examples: Sequence[int], folder: Path) -> Path:
        return write_batch(self.examples, [self.examples[i] for i in examples], folder, self._teacher.by_query)

    def notes(self) -> tuple[str, ...]:
        n, n_negatives = len(self), self.examples.n_negatives
        n_more = sum(len(self.examples.candidates(i)) > n_negatives for i in range(n))
        counts = {
            "examples have no teacher score of their positive: trained by InfoNCE alone": self._n_unscored,
            "examples have no candidate but their positive: their teacher has nothing to compare": self._n_alone,
            f"examples have more candidates than are drawn beside the positive, {n_negatives} (n_negatives)": n_more,
        }
        own = [f"{count} of {n} {what}" for what, count in counts.items() if count]
        return (*super().notes(), *self._teacher.notes(), *own, *self._settled)
