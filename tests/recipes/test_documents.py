from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import english_world
from bessemer.config import Config
from bessemer.errors import ConfigError, DataError
from bessemer.formats import load_collection
from bessemer.recipes.adapt import adapt, plan
from bessemer.recipes.data import require_outside
from bessemer.recipes.index import index
from bessemer.recipes.prepare import prepare_folder
from bessemer.recipes.questions import questions_folder
from bessemer.recipes.summary import WIDTH, funnel_summary, report_summary
from bessemer.search.index import open_index

Configure = Callable[..., Config]


def test_prepare_leaves_a_corpus_and_an_account(configure: Configure, english_documents: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, source=str(english_documents))
    result = prepare_folder(config)
    passages = load_collection(config.out).collection.passages
    assert len(passages) == sum(counts["passages"] for counts in result["splits"].values())
    assert len({p.doc_id for p in passages}) == sum(counts["documents"] for counts in result["splits"].values())
    assert (tmp_path / "out" / "dropped.jsonl").exists()
    assert max(map(len, funnel_summary({**result, "out": "out"}).splitlines())) <= WIDTH


def test_questions_for_a_corpus_alone(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir))
    result = questions_folder(config)
    splits = load_collection(config.out).collection.splits
    counted = {split: counts["queries"] for split, counts in result["splits"].items() if counts["queries"]}
    assert {split: len(judged.queries) for split, judged in splits.items()} == counted
    assert counted["train"] > 10


def test_what_own_questions_measure_is_not_trained_on(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir))
    questions_folder(config)
    alone = load_collection(config.out).collection.splits
    twin, other = alone["train"].queries[:2]
    tested = next(iter(alone["test"].qrels[alone["test"].queries[0].query_id]))
    own = tmp_path / "own.jsonl"
    english_world.write_jsonl(
        own,
        [
            {"query": f"{twin.text.upper()}?", "passage_id": tested},
            {"query": f"{other.text} of an entirely different kind in another place", "passage_id": tested},
        ],
    )
    result = questions_folder(config.model_copy(update={"queries": str(own)}))
    splits = load_collection(config.out).collection.splits
    assert len(splits["test"].queries) == 2
    left = [query for query in alone["train"].queries if query != twin]
    assert [*splits["train"].queries] == left
    assert splits["train"].qrels == {query.query_id: alone["train"].qrels[query.query_id] for query in left}
    rows = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text("utf-8").splitlines()]
    (row,) = (row for row in rows if row["stage"] == "repeats")
    assert (row["id"], row["text"], row["score"]) == (twin.query_id, twin.text, 1.0)
    assert [stage["dropped"] for stage in result["funnel"] if stage["stage"] == "repeats"] == [1]


def test_what_own_questions_train_on_is_not_measured(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir))
    questions_folder(config)
    alone = load_collection(config.out).collection.splits
    trained = next(iter(alone["train"].qrels[alone["train"].queries[0].query_id]))
    twins = {split: alone[split].queries[0] for split in ("dev", "test", "seen")}
    own = tmp_path / "own.jsonl"
    english_world.write_jsonl(
        own, [{"query": f"{query.text.upper()}?", "passage_id": trained} for query in twins.values()]
    )
    result = questions_folder(config.model_copy(update={"queries": str(own)}))
    splits = load_collection(config.out).collection.splits
    assert len(splits["train"].queries) == len(alone["train"].queries) + 3
    for split in ("dev", "test", "seen"):
        left = tuple(query for query in alone[split].queries if query != twins[split])
        assert splits[split].queries == left
        assert splits[split].qrels.keys() == {query.query_id for query in left}
    rows = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows if row["stage"] == "repeats"] == [query.query_id for query in twins.values()]
    (stage,) = [stage for stage in result["funnel"] if stage["stage"] == "repeats"]
    assert stage["reasons"] == {"asks the same as an own question that is trained on": 3}


def test_extracted_questions_never_ship(configure: Configure, english_documents: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, source=str(english_documents))
    report = adapt(config)
    assert report["verdict"]["decision"] != "ship"
    assert any("extracted" in warning for warning in report["data"]["warnings"])
    stages = [stage["stage"] for stage in report["data"]["funnel"]]
    assert stages == ["read", "clean", "chunk", "dedup", "split", "questions"]
    assert sum(report["data"]["dropped"].values()) == sum(stage["dropped"] for stage in report["data"]["funnel"])
    dropped = (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(dropped) == sum(report["data"]["dropped"].values())
    assert max(map(len, report_summary(report, "out").splitlines())) <= WIDTH
    # Questions were taken out of what is trained and measured on, never out of what people search.
    prepared = prepare_folder(config.model_copy(update={"out": str(tmp_path / "prepared")}))
    whole = {p.passage_id: p.indexed_text for p in load_collection(prepared["out"]).collection.passages}
    assert {p.passage_id: p.indexed_text for p in open_index(tmp_path / "out" / "index").passages()} == whole


def test_a_cap_on_train_queries_holds_for_documents(
    configure: Configure, english_documents: Path, tmp_path: Path
) -> None:
    most = {"learning_rate": 0.05, "max_steps": 2, "max_train_queries": 5}
    data = adapt(configure(tmp_path, source=str(english_documents), finetune=most))["data"]
    assert data["queries"]["train"] == 5
    assert min(data["queries"]["dev"], data["queries"]["test"]) > 5
    assert [warning for warning in data["warnings"] if warning.startswith("train queries capped at 5 of ")]


def test_own_questions_judge_and_what_cannot_be_resolved_is_listed(
    configure: Configure, english_documents: Path, tmp_path: Path
) -> None:
    own = tmp_path / "questions.jsonl"
    asked = [
        {"query": f"where is it explained: {summary}?", "source": f"{module}.md", "quote": body[:60]}
        for module, summary, body in english_world.docstring_pairs()
    ]
    english_world.write_jsonl(own, [*asked, {"query": "and this?", "source": "nowhere.md"}])
    config = configure(tmp_path, source=str(english_documents), queries=str(own))
    report = adapt(config)
    assert "1 own questions could not be resolved (dropped.jsonl names each)" in report["data"]["warnings"]
    dropped = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert [row["text"] for row in dropped if "nowhere.md" in row["reason"]] == ["and this?"]
    assert any(w.startswith("test: ") and w.endswith("own questions") for w in report["data"]["warnings"])


def test_bad_own_questions_are_all_named(configure: Configure, english_documents: Path, tmp_path: Path) -> None:
    own = tmp_path / "questions.jsonl"
    own.write_text('{bad\n{"query": ""}\n{"query": ["a"], "source": "csv.md"}\n', encoding="utf-8")
    with pytest.raises(DataError) as error:
        adapt(configure(tmp_path, source=str(english_documents), queries=str(own)))
    assert [problem.line for problem in error.value.problems] == [1, 2, 3]


def test_a_folder_of_others_is_not_replaced(
    configure: Configure, english_documents: Path, english_beir: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "beir"
    shutil.copytree(english_beir, theirs)
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    into = configure(tmp_path, source=str(english_documents)).model_copy(update={"out": str(theirs)})
    for verb, name in ((prepare_folder, "prepare"), (questions_folder, "questions")):
        with pytest.raises(ConfigError, match=f"holds files that are not of an earlier {name}"):
            verb(into)
    assert {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()} == before
    again = configure(tmp_path, source=str(english_documents))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("it stays", encoding="utf-8")
    for verb in (prepare_folder, prepare_folder):
        verb(again)
    for verb in (questions_folder, questions_folder):
        verb(again.model_copy(update={"out": str(tmp_path / "asked")}))
    assert (tmp_path / "out" / "notes.txt").read_text(encoding="utf-8") == "it stays"


def test_adapt_leaves_the_files_of_others(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir))
    for name in ("model", "index"):
        file = tmp_path / "out" / name / "notes.txt"
        file.parent.mkdir(parents=True)
        file.write_text("mine", encoding="utf-8")
        for verb in (adapt, plan):
            with pytest.raises(ConfigError, match=f"{name}: holds files that are not of an earlier adapt"):
                verb(config)
        shutil.rmtree(file.parent)


def test_output_among_the_documents_is_refused(
    configure: Configure, english_documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run would read it."""
    source = tmp_path / "source"
    shutil.copytree(english_documents, source)
    for out in (source / "out", source):
        config = configure(tmp_path, source=str(source)).model_copy(update={"out": str(out)})
        for verb in (prepare_folder, questions_folder, adapt, plan, index):
            with pytest.raises(ConfigError, match="would be read as documents; choose a folder outside"):
                verb(config)
    for workspace in (source / "kept", source):
        config = configure(tmp_path, source=str(source), workspace=str(workspace))
        for verb in (prepare_folder, questions_folder, adapt, plan, index):
            with pytest.raises(ConfigError, match=r"--workspace \S+: lies in --source"):
                verb(config)
    assert not list(source.glob("*out")) + list(source.glob("kept"))
    monkeypatch.chdir(source)
    require_outside(Config(source=".", out="milvus://localhost:19530/MyDocs"))  # no folder at all


def test_a_hidden_workspace_among_the_documents_is_no_part_of_them(
    configure: Configure, english_documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is by default where `adapt` runs in the folder of the documents."""
    source = tmp_path / "source"
    shutil.copytree(english_documents, source)
    monkeypatch.chdir(source)
    config = configure(tmp_path, source=".", workspace=".bessemer")
    adapt(config)
    assert {step["state"] for step in plan(config)["steps"]} == {"cached"}
    (source / "new.md").write_text("# Caches\n\nA cache of steps lies in the workspace, and is hidden.\n", "utf-8")
    assert plan(config)["steps"][0]["state"] == "to run"


def test_what_adapt_cannot_find_is_told_first(configure: Configure, english_documents: Path, tmp_path: Path) -> None:
    source, nowhere = str(english_documents), str(tmp_path / "nowhere")
    for changes, message in (
        ({"queries": nowhere}, r"--queries .*nowhere: no such file"),
        ({"evaluation": {"general": nowhere}}, r"--general .*nowhere: no such folder"),
        ({"finetune": {"head": "unified"}}, "adapt measures and indexes dense vectors"),
        ({"negatives": {"strategy": "topk"}}, "negatives.strategy: unknown `topk`; one of: bm25, mixed"),
        ({"negatives": {"strategy": "mixed", "shares": {"topk": 1}}}, "negatives.shares: unknown `topk`; one of: bm25"),
    ):
        for verb in (adapt, plan):
            with pytest.raises(ConfigError, match=message):
                verb(configure(tmp_path, source=source, **changes))
    assert not (tmp_path / "out").exists()
