"""A corpus that changed after its negatives were mined: they are mined anew, and the old ones are not trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer

import english_world
from bessemer.config import Config
from bessemer.recipes.adapt import adapt
from bessemer.recipes.finetune import finetune
from bessemer.training.tasks import RetrievalTask
from bessemer.training.trainer import ContrastiveTrainer
from bessemer.types import HardNegatives

Configure = Callable[..., Config]
Run = Callable[[Config], Any]


class Stopped(BaseException):
    """What is raised where a machine would stop."""


def stop(*_: Any) -> None:
    raise Stopped


def rows_of(beir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (beir / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]


def mined_in(config: Config) -> set[Path]:
    return set(Path(config.workspace, "steps").glob("negatives*-*/manifest.json"))


def negatives_in(manifest: Path) -> dict[str, dict[str, float]]:
    """query_id -> {passage_id: score}, as the step has them on disk."""
    rows = json.loads(manifest.with_name("result.json").read_text(encoding="utf-8"))["negatives"]["$tuple"]
    return {row["query_id"]: of_row(row["passage_ids"]["$tuple"], row["scores"]["$tuple"]) for row in rows}


def of_row(passage_ids: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    return dict(zip(passage_ids, scores, strict=True))


def scores_in(beir: Path, model: str) -> dict[str, dict[str, float]]:
    """query_id -> {passage_id: score} of all, as sentence-transformers has them."""
    encoder = SentenceTransformer(model, device="cpu")
    queries = [json.loads(line) for line in (beir / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = rows_of(beir)
    passages = encoder.encode_document([f"{row['title']}\n{row['text']}" for row in rows])
    scores = encoder.similarity(encoder.encode_query([query["text"] for query in queries]), passages)
    ids = [row["_id"] for row in rows]
    return {query["_id"]: of_row(ids, row) for query, row in zip(queries, scores.tolist(), strict=True)}


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Mapping[str, str], Sequence[HardNegatives]]]:
    """(text by passage id, negatives) of every training that begins."""
    seen: list[tuple[Mapping[str, str], Sequence[HardNegatives]]] = []
    plain = RetrievalTask.__init__

    def init(self: RetrievalTask, data: Any, *arguments: Any) -> None:
        seen.append(({p.passage_id: p.text for p in data.passages}, data.negatives))
        plain(self, data, *arguments)

    monkeypatch.setattr(RetrievalTask, "__init__", init)
    return seen


@pytest.mark.parametrize("run", [finetune, adapt])
def test_a_corpus_changed_between_mining_and_training_is_mined_anew(
    run: Run,
    configure: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained_on: list[tuple[Mapping[str, str], Sequence[HardNegatives]]],
) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    config = configure(tmp_path, data=str(beir))
    with monkeypatch.context() as patch:
        patch.setattr(ContrastiveTrainer, "train_from", stop)
        with pytest.raises(Stopped):
            run(config)
    (first,) = mined_in(config)
    stamp, old = first.stat().st_mtime_ns, negatives_in(first)
    judged = {f"p{place}" for split in english_world.SPLITS.values() for place in split}

    # Of those that were mined and nobody asks for, one is gone and another has lost half of its text.
    rows = rows_of(beir)
    used = sorted({p for of_query in old.values() for p in of_query} - judged)
    gone = used[0]
    changed = next(row for row in rows if row["_id"] == used[1])
    changed["text"] = changed["text"][: len(changed["text"]) // 2]
    english_world.write_jsonl(beir / "corpus.jsonl", [row for row in rows if row["_id"] != gone])

    run(config)
    (second,) = mined_in(config) - {first}
    new = negatives_in(second)
    assert first.stat().st_mtime_ns == stamp
    assert not any(gone in of_query for of_query in new.values())
    assert any(changed["_id"] in of_query for of_query in new.values())
    expected = scores_in(beir, config.model)
    for query_id, of_query in new.items():
        assert of_query == pytest.approx({p: expected[query_id][p] for p in of_query}, abs=1e-4)
    texts, negatives = trained_on[-1]
    assert texts == {row["_id"]: row["text"] for row in rows_of(beir)}
    assert {row.query_id: of_row(row.passage_ids, row.scores) for row in negatives} == new != old
