from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.errors import ConfigError, DataError
from bessemer.formats.trec import read_qrels, read_run, write_qrels, write_run
from bessemer.types import Run


def test_rank_is_ignored_and_ties_go_by_id_descending(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    path.write_text("1 Q0 a 1 0.5 mine\n1\tQ0\tb\t2\t0.5\tmine\n1  Q0  c  9  7  mine\r\n\n2 Q0 a 1 -1e-3 mine\n")
    run = read_run(path)
    assert run == Run("mine", {"1": [("c", 7.0), ("b", 0.5), ("a", 0.5)], "2": [("a", -0.001)]})


def test_faulty_lines_of_a_run_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    path.write_text("1 Q0 a 1 x mine\n1 Q0 b 2\n1 Q0 c 1 1 m\n1 Q0 c 2 1 m\n1 Q0 d 2 nan m\n")
    with pytest.raises(DataError) as caught:
        read_run(path)
    assert [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems] == [
        "1:score: 'x' is not a finite number; give the score of the hit",
        "2:-: 4 columns where 6 belong; write qid Q0 docid rank score tag",
        "4:docid: 'c' stands twice for query '1'; keep one of the two",
        "5:score: 'nan' is not a finite number; give the score of the hit",
    ]


def test_qrels_and_their_faults(tmp_path: Path) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text("1 0 a 2\n1\t0\tb\t0\n2 0 a 1\n")
    assert read_qrels(path) == {"1": {"a": 2, "b": 0}, "2": {"a": 1}}
    path.write_text("1 0 a 2\n1 0 a 1\n1 a 1\n1 0 b high\n")
    with pytest.raises(DataError) as caught:
        read_qrels(path)
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]


def test_ids_with_spaces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 ids with spaces cannot stand in a TREC file: 'a b'"):
        write_run(Run("r", {"1": [("a b", 1.0)]}), tmp_path / "run.txt")
    assert not (tmp_path / "run.txt").exists()


ids = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=5)


@given(st.dictionaries(ids, st.dictionaries(ids, st.floats(allow_nan=False, allow_infinity=False), min_size=1)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_is_read_back_alike(tmp_path: Path, results: dict[str, dict[str, float]]) -> None:
    ranked = {
        query_id: sorted(sorted(hits.items(), reverse=True), key=lambda hit: -hit[1])
        for query_id, hits in results.items()
    }
    write_run(Run("a name", ranked), tmp_path / "run.txt")
    assert read_run(tmp_path / "run.txt") == Run("a_name" if results else "run", ranked)


@given(st.dictionaries(ids, st.dictionaries(ids, st.integers(-2, 9), min_size=1)))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_qrels_are_read_back_alike(tmp_path: Path, qrels: dict[str, dict[str, int]]) -> None:
    write_qrels(qrels, tmp_path / "qrels.txt")
    assert read_qrels(tmp_path / "qrels.txt") == qrels
