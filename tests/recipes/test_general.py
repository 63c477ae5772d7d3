"""The general set as it is loaded from a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.recipes.general import load_general_set

TEXTS = {"p1": "steel from iron", "p2": "tea from leaves", "p3": "bread from flour", "p4": "wine from grapes"}


@pytest.fixture
def base(tiny_static_model: Path) -> DenseEncoder:
    return load_encoder(str(tiny_static_model), device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    lines = [json.dumps({"_id": name, "text": text}) + "\n" for name, text in TEXTS.items()]
    (tmp_path / "corpus.jsonl").write_text("".join(lines))
    queries = [json.dumps({"_id": f"q{name}", "text": f"how is {text} made"}) + "\n" for name, text in TEXTS.items()]
    (tmp_path / "queries.jsonl").write_text("".join(queries))
    qrels = "".join(f"q{name}\t{name}\t1\n" for name in TEXTS)
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return tmp_path


def test_two_halves_over_one_corpus_and_the_base_is_measured_once(folder: Path, base: DenseEncoder) -> None:
    general = load_general_set(folder, base, 1)
    assert general is not None
    choosing, verdict = general.choosing, general.verdict
    assert {q.query_id for q in choosing.queries} | {q.query_id for q in verdict.queries} == {f"q{p}" for p in TEXTS}
    assert (len(choosing), len(verdict)) == (2, 2)
    assert choosing.passages == verdict.passages
    assert choosing.base == tuple(choosing.scores(base))
    assert verdict.base is None  # no choice looks at it


def test_one_query_leaves_nothing_to_choose_by(folder: Path, base: DenseEncoder) -> None:
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nqp1\tp1\t1\n")
    general = load_general_set(folder, base, 1)
    assert general is not None
    assert (len(general.choosing), len(general.verdict)) == (0, 1)
    assert general.choosing.base is None


def test_none_is_none(base: DenseEncoder) -> None:
    assert load_general_set(None, base, 1) is None
