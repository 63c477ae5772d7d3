"""`load_collection` on what users bring; the real collections against the counts that their meta.json states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bessemer.errors import DataError
from bessemer.formats import Loaded, load_collection

BEIR = ("cmrc2018", "cranfield", "or_sharc", "pubmedqa", "scifact", "toollens")
BGE = Path("flagembedding_format/examples/finetune")
LLM_EMBEDDER = Path("flagembedding_format/research/llm_embedder/data/toy")


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere:-:-: no such file or folder; check --data"):
        load_collection(tmp_path / "nowhere")


def test_a_json_file_of_lines_is_bge_and_a_folder_is_beir(tmp_path: Path) -> None:
    (tmp_path / "toy.json").write_text('{"query": "q", "pos": ["p"]}\n{"query": "r", "pos": ["s"]}\n')
    assert len(load_collection(tmp_path / "toy.json").collection.passages) == 2
    with pytest.raises(DataError, match=r"corpus\.jsonl:-:-: is not there"):
        load_collection(tmp_path)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
values = (
    scalars | st.lists(scalars | st.just("a"), max_size=3) | st.dictionaries(st.text(max_size=2), scalars, max_size=2)
)
hostile = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows_of(*names: str) -> st.SearchStrategy[list[dict]]:
    return st.lists(st.dictionaries(st.sampled_from(names), values), max_size=4)


def loads_or_complains(path: Path) -> None:
    """Nothing but a DataError may come out of bad data, and ids hold together."""
    try:
        loaded = load_collection(path)
    except DataError:
        return
    assert isinstance(loaded, Loaded)
    passage_ids = {passage.passage_id for passage in loaded.collection.passages}
    for judged in loaded.collection.splits.values():
        assert {query.query_id for query in judged.queries} >= judged.qrels.keys()
        assert all(grades.keys() <= passage_ids for grades in judged.qrels.values())
    assert all(passage_ids.issuperset(item.passage_ids) for item in loaded.negatives)


@given(
    rows_of(
        "query", "pos", "neg", "pos_scores", "neg_scores", "pos_ids", "neg_ids", "teacher_scores", "query_id", "history"
    ),
    st.sampled_from(["json", "jsonl"]),
)
@hostile
def test_hostile_rows(tmp_path: Path, rows: list[dict], suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_text("".join(json.dumps({"query": "q", "pos": ["a"], **row}) + "\n" for row in rows))
    loads_or_complains(path)


@given(rows_of("_id", "title", "text", "metadata"), rows_of("_id", "text", "metadata"), st.text(max_size=12))
@hostile
def test_hostile_folders(tmp_path: Path, corpus: list[dict], queries: list[dict], qrels: str) -> None:
    (tmp_path / "qrels").mkdir(exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps({"_id": f"{i}", "text": "t", **row}) + "\n" for i, row in enumerate(rows)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    (tmp_path / "qrels" / "train.tsv").write_bytes(f"0\t0\t1\n1\t0\t1\n{qrels}".encode("utf-8", "surrogatepass"))
    loads_or_complains(tmp_path)


@given(st.binary(max_size=60), st.sampled_from(["json", "jsonl", "tsv"]))
@hostile
def test_hostile_bytes(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"bytes.{suffix}"
    path.write_bytes(content)
    loads_or_complains(path)


@pytest.mark.real_data
@pytest.mark.parametrize("name", BEIR)
def test_real_collections_load_with_their_stated_counts(data_dir: Path, name: str) -> None:
    stats = json.loads((data_dir / "beir" / name / "meta.json").read_text(encoding="utf-8"))["stats"]
    loaded = load_collection(data_dir / "beir" / name, require=("train", "dev", "test"))
    splits = loaded.collection.splits
    assert len(loaded.collection.passages) == stats["docs"]
    assert {split: len(judged.queries) for split, judged in splits.items()} == {
        split: stats[f"n_{split}"] for split in ("train", "dev", "test")
    }
    grades: dict[str, int] = {}
    for judged in splits.values():
        for judgements in judged.qrels.values():
            for grade in judgements.values():
                grades[str(grade)] = grades.get(str(grade), 0) + 1
    assert {grade: n for grade, n in grades.items() if grade != "0"} == stats["grades"]
    for pair, n in stats["positive_doc_overlap"].items():
        assert loaded.counts.get(f"leak.positive.{pair.replace('&', '-')}", 0) == n


@pytest.mark.real_data
def test_known_blemishes_of_real_collections_are_counted(data_dir: Path) -> None:
    counts = {name: load_collection(data_dir / "beir" / name).counts for name in ("cranfield", "cmrc2018", "pubmedqa")}
    assert counts["cranfield"]["empty_passages"] == 2
    assert counts["cmrc2018"]["empty_queries.train"] + counts["cmrc2018"]["empty_queries.test"] == 2
    assert counts["pubmedqa"] == {}


@pytest.mark.real_data
def test_pubmedqa_s_long_answers_are_answers(data_dir: Path) -> None:
    queries = load_collection(data_dir / "beir" / "pubmedqa").collection.splits["test"].queries
    assert all(len(query.answers) == 1 for query in queries)


@pytest.mark.real_data
def test_real_bge_files_load_whole(data_dir: Path) -> None:
    paths = sorted((data_dir / BGE).rglob("*.jsonl"))
    assert len(paths) == 10
    for path in paths:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        loaded = load_collection(path)
        corpus = {text for row in rows for text in [*row["pos"], *row["neg"]]}
        assert {passage.text for passage in loaded.collection.passages} == corpus
        queries = {query.text for judged in loaded.collection.splits.values() for query in judged.queries}
        assert queries == {row["query"] for row in rows}
        assert len(loaded.prompts) == (len(queries) if "prompt" in rows[0] else 0)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("task", "n_scored", "n_candidates"),
    [("chat", 8, 7), ("convsearch", 0, 0), ("icl", 8, 20), ("lrlm", 8, 64), ("qa", 8, 101), ("tool", 0, 0)],
)
def test_real_llm_embedder_files_load_whole(data_dir: Path, task: str, n_scored: int, n_candidates: int) -> None:
    loaded = load_collection(data_dir / LLM_EMBEDDER / f"{task}.json")
    queries = [query for judged in loaded.collection.splits.values() for query in judged.queries]
    assert len(queries) == 8
    assert {query.task for query in queries} == {task}
    assert len(loaded.teacher_scores) == n_scored
    assert len(next(iter(loaded.teacher_scores.values()), {})) == n_candidates
