"""Mining anew as weights change: what they do not change is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bessemer.config import Config, NegativesConfig
from bessemer.negatives import Corpus, mine_from, mine_hard_negatives
from bessemer.recipes.adapt import adapt
from bessemer.recipes.kept_reranker import RERANKER_SCORES, KeptReranker
from bessemer.score_cache import ScoreCache
from bessemer.search.bm25 import BM25
from bessemer.search.rerank import CrossEncoderReranker
from bessemer.types import Judged, Passage, Query
from fixed_vectors import FixedVectors
from lane_models import write_cross_encoder

PAIRS = [("iron", "steel"), ("wine", "stain"), ("iron", "steel"), ("iron", "blast furnace")]


class Watched(CrossEncoderReranker):
    """Tells what it was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), "cpu")
        self.asked: list[tuple[str, str]] = []

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        self.asked += pairs
        return super().__call__(pairs)


def test_a_pair_is_scored_once_from_run_to_run(tmp_path: Path) -> None:
    plain = CrossEncoderReranker(str(write_cross_encoder(tmp_path / "model")), "cpu")
    first = Watched(tmp_path / "model" / "x")
    kept = KeptReranker(first, tmp_path / "scores.sqlite")
    np.testing.assert_allclose(kept(PAIRS), plain(PAIRS), rtol=1e-6)
    assert first.asked == [PAIRS[0], PAIRS[1], PAIRS[3]]
    second = Watched(tmp_path / "model" / "x")
    again = KeptReranker(second, tmp_path / "scores.sqlite")
    np.testing.assert_array_equal(again([PAIRS[3], ("wine", "steel")])[:1], kept(PAIRS)[3:])
    assert second.asked == [("wine", "steel")]
    assert again.fingerprint == plain.fingerprint


def test_training_that_mines_again_is_done_once(
    tmp_path: Path, configure: Callable[..., Config], english_beir: Path
) -> None:
    """What a corpus has made of its texts by then is no part of what the step depends on."""
    config = configure(
        tmp_path,
        data=str(english_beir),
        finetune={"learning_rate": 0.05, "max_steps": 4, "refresh_steps": 1},
        negatives={"candidates": "hybrid", "reranker": str(write_cross_encoder(tmp_path))},
    )
    first = adapt(config)["training"]
    assert first["steps"] == 4
    with ScoreCache(tmp_path / "workspace" / RERANKER_SCORES) as cache:
        ((n_scored,),) = cache.rows("SELECT count(*) FROM scores")
    assert n_scored > 24  # of each train query its positive and more
    assert adapt(config)["training"]["seconds"] == first["seconds"]


@pytest.mark.parametrize("strategy", ["top_k", "simans", "mixed", "bm25"])
def test_mining_again_is_mining_from_scratch(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"granite word{i} countertop{i % 3} heat{i % 5}" for i in range(12)]
    passages = [Passage(f"p{i}", f"d{i % 4}", text) for i, text in enumerate(texts)]
    judged = Judged(
        (Query("q", "granite word3 countertop0"), Query("r", "heat2 word7")), {"q": {"p3": 1}, "r": {"p7": 1}}
    )
    config = NegativesConfig(strategy=strategy, candidates="hybrid", relative_margin=0)
    rng = np.random.default_rng(3)
    words = [query.text for query in judged.queries] + texts
    before, after = (FixedVectors(dict(zip(words, rng.normal(size=(14, 4)).tolist(), strict=True))) for _ in range(2))
    expected = [mine_hard_negatives(judged, passages, weights, config).negatives for weights in (before, after)]
    built = []
    build = BM25.build
    monkeypatch.setattr(BM25, "build", lambda *given: built.append(1) or build(*given))
    corpus = Corpus(passages)
    assert [mine_from(corpus, judged, weights, config).negatives for weights in (before, after)] == expected
    assert len(built) == 1
