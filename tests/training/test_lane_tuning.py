"""Lane weights are chosen on the dev pool, by the scores of its own passages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_world
import unified_world

from bessemer.config import FinetuneConfig
from bessemer.encoders.load import load_encoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.encoders.unified_settings import LaneWeights
from bessemer.search.ensemble import tune_lane_weights
from bessemer.search.unified import UnifiedRetriever
from bessemer.training import lane_ranking
from bessemer.training.batches import TrainingData
from bessemer.training.dev_pool import EvaluationPool, NamedPool, TaskPools
from bessemer.training.finetune import Selection, finetune
from bessemer.training.lane_tuning import lane_scores, tuned_lanes
from bessemer.types import Query

OUTPUTS = ("dense", "sparse", "multi_vector")


def pool() -> EvaluationPool:
    passages = tuple(tiny_world.passages())
    queries = tuple(Query(f"q{i}", passage.text.split()[0]) for i, passage in enumerate(passages[:6]))
    qrels = {query.query_id: {passages[i].passage_id: 1} for i, query in enumerate(queries)}
    return EvaluationPool(queries, qrels, passages, "all")


def test_the_scores_are_those_of_search(tiny_bert_model: Path) -> None:
    encoder = unified_world.opened(tiny_bert_model).with_settings(multi_vector_precision="float32")
    world = pool()
    found = encoder.encode_passages([passage.indexed_text for passage in world.passages], OUTPUTS)
    retriever = UnifiedRetriever(encoder, [passage.passage_id for passage in world.passages], found)
    hits = retriever.search([query.text for query in world.queries], 5)
    scores = lane_scores(encoder, world)
    for query, expected in zip(world.queries, hits, strict=True):
        own = scores[query.query_id].hits(encoder.lane_weights, 5)
        assert [passage_id for passage_id, _ in own] == [passage_id for passage_id, _ in expected]
        np.testing.assert_allclose([score for _, score in own], [score for _, score in expected], atol=1e-5)


def test_of_several_tasks_every_query_counts_once(tiny_bert_model: Path) -> None:
    encoder, one = unified_world.opened(tiny_bert_model), pool()
    alone = tuned_lanes(encoder, one)
    assert alone == tune_lane_weights(lane_scores(encoder, one), one.qrels, encoder.lane_weights)
    twice = tuned_lanes(encoder, TaskPools((NamedPool("a", "", one), NamedPool("b", "", one))))
    assert (alone.n_queries, twice.n_queries) == (6, 12)
    assert twice.before == alone.before
    assert set(alone.to_dict()) == {*OUTPUTS, "dev", "dev_before", "dev_best", "n_queries"}


def test_a_lane_that_was_left_out_starts_again_from_its_default(
    tiny_bert_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever dev is measured, the base first and the lane weights last; without dev what was saved stays."""
    measured: list[LaneWeights] = []

    def weighted_sum(*given: np.ndarray | LaneWeights) -> np.ndarray:
        measured.append(given[3])
        return plain(*given)

    plain = lane_ranking.weighted_sum
    monkeypatch.setattr(lane_ranking, "weighted_sum", weighted_sum)
    encoder = unified_world.opened(tiny_bert_model).with_settings(lane_weights=LaneWeights(1.0, 0.0, 2.0))
    data = TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives())
    config = FinetuneConfig(head="unified", bf16=False, per_device_train_batch_size=8, max_steps=2, eval_steps=1)
    selection = Selection(pool().ranked_by("unified"), None, 1.0)
    tuned = finetune([data], encoder, selection, config, 42, tmp_path / "dev").report.lane_weights
    assert measured
    assert set(measured) == {LaneWeights(1.0, 0.3, 2.0)}
    assert tuned is not None
    assert tuned["sparse"] in [0.3 * factor for factor in (0, 0.25, 0.5, 1, 2, 4)]
    assert encoder.lane_weights == LaneWeights(1.0, 0.0, 2.0)

    after = load_encoder(str(finetune([data], encoder, None, config, 42, tmp_path / "no dev").model), device="cpu")
    assert isinstance(after, UnifiedEncoder)
    assert after.lane_weights == LaneWeights(1.0, 0.0, 2.0)
