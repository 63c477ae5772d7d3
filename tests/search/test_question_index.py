"""Questions that were asked before, as a lane of the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hashed_words import HashedWords

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.load import load_encoder
from bessemer.errors import ArtifactError, ConfigError
from bessemer.search.index import open_index
from bessemer.search.index_build import IndexStats, build_index
from bessemer.search.index_manifest import read_manifest, rollback
from bessemer.search.question_index import Pointer
from bessemer.search.stores.files import FilesEngine
from bessemer.search.stores.filters import parse_where
from bessemer.types import Passage, Query
from fixed_vectors import FixedVectors

PASSAGES = [Passage(f"p{i}", f"d{i}", text, metadata={"year": 2020 + i}) for i, text in enumerate(("ab", "cd", "ef"))]


def asks(text: str, *passage_ids: str) -> list[Pointer]:
    return [(Query(f"id of {text}", text), passage_id) for passage_id in passage_ids]


class TwoSides(FixedVectors):
    """Queries and passages of other vectors: what is asked before must be read as a query."""

    def __init__(self, queries: Mapping[str, Sequence[float]], passages: Mapping[str, Sequence[float]]) -> None:
        super().__init__(queries)
        self._passages = FixedVectors(passages)
        self.n_questions = 0

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        self.n_questions += len(texts)
        return super().encode_queries(texts)

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        return self._passages.encode_queries(texts)


QUERIES = {"asked": (1, 0), "near": (0.9, 0.1), "far": (0.5, 0.5), "other": (0, 1)}
VECTORS = {"ab": (0, 1), "cd": (0.1, 1), "ef": (0.2, 1)}


def encoder() -> TwoSides:
    return TwoSides(QUERIES, VECTORS)


def test_a_lane_by_hand(tmp_path: Path) -> None:
    questions = [*asks("near", "p0", "p1"), *asks("far", "p0"), *asks("other", "p2"), *asks("near", "gone")]
    stats = build_index(tmp_path, PASSAGES, encoder(), "m", questions=questions)
    assert (stats.n_questions, stats.n_questions_encoded) == (4, 3)
    hits = {hit["passage_id"]: hit for hit in open_index(tmp_path, encoder()).search("asked", 3)}
    lanes = {key: hit["lanes"]["questions"] for key, hit in hits.items()}
    assert lanes == {  # p0 by the better of its two; ties by id descending
        "p1": {"rank": 1, "score": pytest.approx(0.9), "question": "near"},
        "p0": {"rank": 2, "score": pytest.approx(0.9), "question": "near"},
        "p2": {"rank": 3, "score": pytest.approx(0.0), "question": "other"},
    }
    dense = {"p2": 1, "p1": 2, "p0": 3}  # 0.2, 0.1, 0; no word matches
    assert {key: hit["score"] for key, hit in hits.items()} == {
        key: pytest.approx(1 / (60 + dense[key]) + 1 / (60 + lanes[key]["rank"])) for key in dense
    }


def test_the_lane_keeps_to_the_filter_and_to_what_is_there(tmp_path: Path) -> None:
    questions = [*asks("near", "p0", "p1"), *asks("far", "p2")]
    build_index(tmp_path, PASSAGES, encoder(), "m", questions=questions)
    hits = open_index(tmp_path, encoder()).search("asked", 3, where=parse_where(["year>=2021"]))
    assert {hit["passage_id"]: hit["lanes"]["questions"]["rank"] for hit in hits} == {"p1": 1, "p2": 2}
    hits = open_index(tmp_path, encoder()).search("asked", 3, where=parse_where(["doc_id=d2"]))
    assert [hit["passage_id"] for hit in hits] == ["p2"]
    changed = [Passage("p1", "d1", "cd", metadata={"year": 1999}), PASSAGES[2]]  # one is gone, the other's year is new
    stats = build_index(tmp_path, changed, encoder(), "m", questions=questions)
    assert (stats.n_questions, stats.n_questions_encoded) == (2, 0)
    index = open_index(tmp_path, encoder())
    assert {hit["passage_id"] for hit in index.search("asked", 3)} == {"p1", "p2"}
    assert [hit["passage_id"] for hit in index.search("asked", 3, where=parse_where(["year<2000"]))] == ["p1"]


def test_a_build_stopped_before_the_questions_shows_no_passage_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = asks("near", "p0", "p1")
    build_index(tmp_path, PASSAGES, encoder(), "m", questions=questions)

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    changed = [Passage("p1", "d1", "cd", metadata={"year": 1999}), PASSAGES[2]]
    with monkeypatch.context() as patch:
        patch.setattr("bessemer.search.index_build._put_questions", stop)
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path, changed, encoder(), "m", questions=questions)
    index = open_index(tmp_path, encoder())
    assert [hit["passage_id"] for hit in index.search("asked", 3) if "questions" in hit["lanes"]] == ["p1"]
    assert [hit["passage_id"] for hit in index.search("asked", 3, where=parse_where(["year>=2020"]))] == ["p2"]
    assert build_index(tmp_path, changed, encoder(), "m", questions=questions).n_questions == 1


def test_only_new_questions_go_through_the_model(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, encoder(), "m", questions=asks("near", "p0"))
    counting = encoder()
    more = [*asks("near", "p0", "p2"), *asks(" NEAR ", "p0"), *asks("other", "p1")]
    stats = build_index(tmp_path, PASSAGES, counting, "m", questions=more)
    assert stats == IndexStats(3, 0, 3, 0, 0, 3, 1)  # the same question of the same passage stands there once
    assert counting.n_questions == 1
    assert build_index(tmp_path, PASSAGES, counting, "m", questions=more).n_questions_encoded == 0
    assert counting.n_questions == 1


def test_no_questions_no_lane(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, encoder(), "m", questions=asks("near", "p0"))
    engine = FilesEngine(tmp_path)
    assert len(engine.generations()) == 2
    build_index(tmp_path, PASSAGES, encoder(), "m")
    assert read_manifest(engine)["questions"] is None
    assert len(engine.generations()) == len(list(tmp_path.glob("lexicon-*"))) == 1
    index = open_index(tmp_path, encoder())
    assert not any("questions" in hit["lanes"] for hit in index.search("asked", 3))
    build_index(tmp_path, PASSAGES, encoder(), "m", questions=asks("near", "nowhere"))
    assert read_manifest(engine)["questions"] is None


def test_questions_come_back_with_their_generation(tmp_path: Path) -> None:
    texts = [Passage(f"p{i}", "d", text) for i, text in enumerate(("red apple", "green pear", "blue sky"))]
    build_index(tmp_path, texts, HashedWords("a"), "model-a", questions=asks("what is a fruit", "p0"))
    build_index(tmp_path, texts, HashedWords("b"), "model-b", questions=asks("what is above", "p2"))
    engine = FilesEngine(tmp_path)
    assert len(engine.generations()) == 4
    assert rollback(engine)["model"] == "model-a"
    [hit] = open_index(tmp_path, HashedWords("a")).search("a fruit", 1)
    assert (hit["passage_id"], hit["lanes"]["questions"]["question"]) == ("p0", "what is a fruit")
    [lexicon] = tmp_path.glob(f"lexicon-{read_manifest(engine)['questions']['generation']}.json")
    rollback(engine)
    lexicon.write_text(lexicon.read_text().replace('"is_exact": true', '"is_exact": false'))
    with pytest.raises(ConfigError, match="when the build was stopped"):
        rollback(engine)


def test_damaged_questions_are_told_and_built_again(tmp_path: Path) -> None:
    build_index(tmp_path, PASSAGES, encoder(), "m", questions=asks("near", "p0"))
    generation = read_manifest(FilesEngine(tmp_path))["questions"]["generation"]
    for file in (tmp_path / generation).iterdir():
        if file.is_file():
            file.write_bytes(b"{")
    with pytest.raises(ArtifactError):
        open_index(tmp_path, encoder())
    assert build_index(tmp_path, PASSAGES, encoder(), "m", questions=asks("near", "p0")).n_questions_encoded == 1
    assert open_index(tmp_path, encoder()).search("asked", 1)[0]["lanes"]["questions"]["rank"] == 1


def test_another_model_for_queries_renews_the_questions_alone(tmp_path: Path) -> None:
    class OtherQueries(TwoSides):
        def fingerprint_of(self, side: str) -> str:
            return "tuned queries" if side == "query" else super().fingerprint_of(side)

    build_index(tmp_path, PASSAGES, encoder(), "m", questions=asks("near", "p0"))
    other = OtherQueries({**QUERIES, "near": (0.3, 0)}, VECTORS)
    stats = build_index(tmp_path, PASSAGES, other, "m", questions=asks("near", "p0"))
    assert (stats.n_encoded, stats.n_questions_encoded) == (0, 1)
    [hit] = [hit for hit in open_index(tmp_path, other).search("asked", 3) if "questions" in hit["lanes"]]
    assert hit["lanes"]["questions"]["score"] == pytest.approx(0.3)


@pytest.mark.parametrize("engine", ["files", "qdrant-edge"])
def test_a_real_model_finds_by_what_people_asked(tmp_path: Path, engine: str) -> None:
    if engine == "qdrant-edge":
        pytest.importorskip("qdrant_edge")
    model = load_encoder("minilm", device="cpu", bf16=False)
    texts = ("Form T-17 is handed in before departure.", "Form B-2 asks for a desk.", "Lunch is served at noon.")
    passages = [Passage(f"p{i}", "d", text) for i, text in enumerate(texts)]
    question = "How do I get my travel expenses paid back?"
    build_index(tmp_path, passages, model, "minilm", engine=engine, questions=asks(question, "p1"))
    index = open_index(tmp_path, model)
    assert len(index.engine.generations()) == 2
    asked = "reimbursement of trip costs"
    [hit] = [hit for hit in index.search(asked, 3) if "questions" in hit["lanes"]]
    vectors = model.encode_queries([asked, question]).dense
    assert vectors is not None
    assert hit["lanes"]["questions"] == {
        "rank": 1, "score": pytest.approx(float(np.dot(*vectors)), abs=1e-5), "question": question,
    }  # fmt: skip
