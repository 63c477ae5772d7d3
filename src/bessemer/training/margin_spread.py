"""How wide a teacher's margins are beside those of the model before training: the two units of margin-MSE."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np

from bessemer.draws import digest
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.trainable import Trainable
from bessemer.errors import DataError, Problem
from bessemer.training.batches import Row, TrainingSet

SAMPLED = 512
"""Examples that are measured: with four margins each, a root mean square is off by about 2%."""
ROUNDING = 1e-6
"""Of similarities in float32."""


def margin_spreads(
    examples: TrainingSet, scored: Callable[[Row], dict[int, float]], encoder: Trainable, where: str
) -> tuple[float, float]:
    """Root mean squares of (teacher's, student's) margins, positive less candidate, over a seeded sample of examples.

    ``scored``: the teacher's scores of a row's passages, the positive among them. Raises DataError, which names
    ``where``, where all margins of a side are 0.
    """
    order = sorted(range(len(examples)), key=lambda i: digest(examples.seed, f"spread:{i}"))
    rows = list(islice((row for row in (examples[i] for i in order) if len(scored(row)) > 1), SAMPLED))
    texts = [examples.queries[row.query].searched_text for row in rows]
    used = sorted({p for row in rows for p in scored(row)})
    place = {p: i for i, p in enumerate(used)}
    assert isinstance(encoder, DenseEncoder), "the configuration has margin_mse for dense vectors alone"
    queries = encoder.encode(texts, "query")
    passages = encoder.encode([examples.passages[p].indexed_text for p in used], "passage")
    teacher: list[float] = []
    student: list[float] = []
    for vector, row in zip(queries, rows, strict=True):
        scores = scored(row)
        others = [p for p in scores if p != row.positive]
        teacher += [scores[row.positive] - scores[p] for p in others]
        student += list(vector @ passages[place[row.positive]] - passages[[place[p] for p in others]] @ vector)
    spreads = [float(np.sqrt(np.mean(np.square(margins, dtype=np.float64)))) for margins in (teacher, student)]
    for name, spread, least in zip(("teacher", "model"), spreads, (0.0, ROUNDING), strict=True):
        if spread <= least:
            message = f"the {name}'s scores of the positive and of all other candidates are the same"
            raise DataError([Problem(where, None, "teacher_scores", message, "choose another --loss")])
    return spreads[0], spreads[1]
