"""The weights of a unified model's lanes, chosen on the dev pool once the model is trained."""

from __future__ import annotations

from collections.abc import Iterator

from bessemer.encoders.unified import UnifiedEncoder
from bessemer.search.ensemble import LaneScores, LaneTuning, tune_lane_weights
from bessemer.training.dev_pool import DevPool, EvaluationPool, TaskPools
from bessemer.training.lane_ranking import scores_of_lanes


def tuned_lanes(encoder: UnifiedEncoder, pool: DevPool) -> LaneTuning:
    """By the rule of `tune_lane_weights`, over the queries of all tasks of ``pool``, each with the prompts of its
    task."""
    scores: dict[str, LaneScores] = {}
    qrels: dict[str, dict[str, int]] = {}
    for name, of_task, part in _parts(encoder, pool):
        for query_id, found in lane_scores(of_task, part).items():
            scores[f"{name} {query_id}"] = found
            qrels[f"{name} {query_id}"] = dict(part.qrels.get(query_id, {}))
    return tune_lane_weights(scores, qrels, encoder.lane_weights)


def lane_scores(encoder: UnifiedEncoder, pool: EvaluationPool) -> dict[str, LaneScores]:
    """query_id -> what every lane says of every passage of the pool."""
    queries = [query.searched_text for query in pool.queries]
    lanes = scores_of_lanes(encoder, "unified", queries, [passage.indexed_text for passage in pool.passages])
    passage_ids = [passage.passage_id for passage in pool.passages]
    rows = zip(lanes["dense"], lanes["sparse"], lanes["multi_vector"], strict=True)
    return {
        query.query_id: LaneScores(passage_ids, *of_query) for query, of_query in zip(pool.queries, rows, strict=True)
    }


def _parts(encoder: UnifiedEncoder, pool: DevPool) -> Iterator[tuple[str, UnifiedEncoder, EvaluationPool]]:
    if isinstance(pool, EvaluationPool):
        yield "", encoder, pool
    elif isinstance(pool, TaskPools):
        for named in pool.pools:
            of_task = encoder.for_task(named.task)
            assert isinstance(of_task, UnifiedEncoder)
            for _, _, part in _parts(of_task, named.pool):
                yield named.name, of_task, part
