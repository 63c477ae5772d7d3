"""Questions from a scripted language model over real HTTP: asked, filtered, kept, and trained on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import english_world
from bessemer.config import Config, QuestionsConfig
from bessemer.errors import BudgetError, ConfigError, DataError, ServiceError
from bessemer.formats import load_collection
from bessemer.recipes.adapt import adapt, plan
from bessemer.recipes.generated import estimate, open_llm
from bessemer.recipes.plan import plan_summary
from bessemer.recipes.questions import questions_folder
from bessemer.recipes.summary import WIDTH, funnel_summary, report_summary
from bessemer.types import Passage
from scripted_llm import Answer, chat, fault, llm_of, obliging, passages_of, serving

Configure = Callable[..., Config]


def dropped(config: Config) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in Path(config.out, "dropped.jsonl").read_text(encoding="utf-8").splitlines()]


def test_questions_of_documents(configure: Configure, english_documents: Path, tmp_path: Path) -> None:
    with serving(obliging) as server:
        config = configure(
            tmp_path,
            source=str(english_documents),
            llm=llm_of(server, input_price=1, output_price=2),
            questions={"judge": True},
        )
        result = questions_folder(config)
        n_calls = len(server.requests)
        again = questions_folder(config)
        assert len(server.requests) == n_calls  # every answer was kept
    collection = load_collection(config.out).collection
    origins = {split: {q.query_id.split("-")[0] for q in judged.queries} for split, judged in collection.splits.items()}
    assert origins == {"train": {"mined"}, "dev": {"paraphrased"}, "test": {"paraphrased"}, "seen": {"paraphrased"}}
    known = {passage.passage_id for passage in collection.passages}
    for judged in collection.splits.values():
        assert judged.queries
        assert all(set(judged.qrels[query.query_id]) <= known for query in judged.queries)
    assert any(len(grades) == 2 for grades in collection.splits["train"].qrels.values())  # asked of two passages

    stages = {stage["stage"]: stage for stage in result["funnel"]}
    order = [*(name for name in stages if name not in ("read", "clean", "chunk", "dedup", "split"))]
    assert order[0] == "parse"
    kept = [stages[name]["kept"] for name in order]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == sum(counts["queries"] for counts in result["splits"].values())
    counted = Counter(item["stage"] for item in dropped(config))
    assert counted == {name: stage["dropped"] for name, stage in stages.items() if stage["dropped"]}
    assert all(item["passage_id"] for item in dropped(config) if item["stage"] in order)

    llm = result["llm"]
    assert llm["calls"] == n_calls
    assert llm["cost"] == pytest.approx(n_calls * (10 * 1 + 5 * 2) / 1e6)
    assert set(llm["easiness"]["test"]) == {"bm25", "base"}
    assert 0 <= llm["easiness"]["test"]["bm25"] <= 1
    assert (again["llm"]["calls"], again["llm"]["calls_kept_from_before"]) == (0, n_calls)
    text = funnel_summary({**again, "out": "out"})
    assert max(map(len, text.splitlines())) <= WIDTH
    assert f"0 calls, {n_calls} more kept from before" in " ".join(text.split())


def test_a_corpus_alone_is_enough(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with serving(obliging) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server))
        questions_folder(config)
    assert load_collection(config.out).collection.splits["train"].queries


def test_a_dry_run_asks_nothing_and_counts(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with serving(obliging) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server, input_price=1, output_price=1))
        found = questions_folder(config, dry_run=True)["llm"]
        assert not server.requests
        assert not Path(config.out).exists()
        assert not (tmp_path / "workspace" / "llm").exists()
        made = questions_folder(config)["llm"]
        assert found["calls"] >= len(server.requests)
        assert found["cost"] >= made["cost"]
        again = questions_folder(config, dry_run=True)["llm"]
    assert found["cost"] == pytest.approx((found["input_tokens"] + found["output_tokens"]) / 1e6)
    assert (again["calls"], again["calls_kept"], again["cost"]) == (0, made["calls"], 0)


def test_an_estimate_knows_rewording_and_judging(configure: Configure, tmp_path: Path) -> None:
    """Of a train passage 2 questions are asked, of dev and test 1 each, 120 tokens for every one; the latter two are
    reworded in as many tokens again, and all four judged in 5."""
    passages = [Passage(f"p{i}", split, "iron and ore") for i, split in enumerate(("train", "dev", "test"))]
    splits = {passage.doc_id: passage.doc_id for passage in passages}
    asked = QuestionsConfig(per_passage=2, per_test_passage=1, paraphrase=False)

    def estimated(**changes: bool) -> Mapping[str, Any]:
        return estimate(passages, splits, llm, asked.model_copy(update=changes), seed=1)

    with serving(obliging) as server, open_llm(configure(tmp_path, llm=llm_of(server))) as llm:
        assert llm is not None
        plain, reworded, judged = estimated(), estimated(paraphrase=True), estimated(paraphrase=True, judge=True)
        assert not server.requests
    assert (plain["calls"], plain["output_tokens"]) == (3, 4 * 120)
    assert (reworded["calls"], reworded["output_tokens"]) == (5, 6 * 120)
    assert (judged["calls"], judged["output_tokens"]) == (9, 6 * 120 + 4 * 5)
    assert reworded["input_tokens"] - plain["input_tokens"] > 2 * 120  # the questions, and what is asked of them


def test_ten_documents_more_ask_for_those_alone(configure: Configure, english_documents: Path, tmp_path: Path) -> None:
    with serving(obliging) as server:
        config = configure(tmp_path, source=str(english_documents), llm=llm_of(server))
        questions_folder(config)
        asked = len(server.requests)
        for i in range(10):
            words = " ".join(f"zephyr{i}{letter} quokka{i}{letter} marzipan{i}{letter}" for letter in "abcdefgh")
            (english_documents / f"new-{i}.md").write_text(
                f"# New chapter {i}\n\nIt tells of {words}.\n", encoding="utf-8"
            )
        questions_folder(config)
        new = server.requests[asked:]
    assert new
    told = [text for request in new for text in (passages_of(request) or [request["messages"][-1]["content"]])]
    assert all("zephyr" in text or "quokka" in text or "marzipan" in text for text in told)


def test_adapt_with_a_language_model(configure: Configure, english_documents: Path, tmp_path: Path) -> None:
    with serving(obliging) as server:
        config = configure(tmp_path, source=str(english_documents), llm=llm_of(server, input_price=1, output_price=2))
        planned = plan(config)
        assert not server.requests
        assert not (tmp_path / "workspace" / "steps").exists()
        report = adapt(config)
        n_calls = len(server.requests)
        assert planned["llm"]["calls"] >= n_calls  # of documents that were cut for the estimate alone
        assert planned["llm_cost"] == planned["llm"]["cost"] >= report["data"]["llm"]["cost"]
        assert plan(config)["llm_cost"] == 0.0
        adapt(config)
        assert len(server.requests) == n_calls
        changed = configure(
            tmp_path, source=str(english_documents), llm=llm_of(server), questions={"style": "short, no names"}
        )
        planned = plan(changed)
        assert planned["llm"]["calls"] > 0
        assert planned["llm_cost"] is None
        assert "cost unknown without prices" in plan_summary(planned)
        assert len(server.requests) == n_calls
    assert report["data"]["llm"]["calls"] == n_calls
    assert report["data"]["llm"]["easiness"]["test"]
    assert any("written by scripted" in warning for warning in report["data"]["warnings"])
    assert not any("extracted" in warning for warning in report["data"]["warnings"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Language model" in page
    assert f"<dt>calls</dt><dd>{n_calls}</dd>" in page
    assert max(map(len, report_summary(report, "out").splitlines())) <= WIDTH


def test_own_questions_beside_generated_ones(configure: Configure, english_documents: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    english_world.write_jsonl(own, [{"query": "how do I read an ini file", "source": "configparser.md"}])
    with serving(obliging) as server:
        llm, index = llm_of(server), {"late_chunking": True}
        config = configure(tmp_path, source=str(english_documents), queries=str(own), llm=llm, index=index)
        report = adapt(config)
    assert any("1 own questions" in w or "1 own and" in w for w in report["data"]["warnings"])
    assert (
        "index: late_chunking not used: adapt leaves a plain index; run bessemer index" in report["training"]["notes"]
    )


def test_own_questions_that_cannot_be_read_are_told_before_a_model_is_paid(
    configure: Configure, english_documents: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.jsonl"
    english_world.write_jsonl(own, [{"query": 7, "source": "configparser.md"}])
    with serving(obliging) as server:
        config = configure(tmp_path, source=str(english_documents), queries=str(own), llm=llm_of(server))
        with pytest.raises(DataError, match=r"own\.jsonl:1:query"):
            questions_folder(config)
        assert server.requests == []


def test_the_corpus_is_not_written_over(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    """A prepared folder would be taken for an earlier run's: the questions that are extracted leave its passages."""
    data = tmp_path / "prepared"
    data.mkdir()
    corpus = (english_beir / "corpus.jsonl").read_bytes()
    (data / "corpus.jsonl").write_bytes(corpus)
    (data / "dropped.jsonl").touch()
    config = configure(tmp_path, data=str(data)).model_copy(update={"out": f"{data}/"})
    with pytest.raises(ConfigError, match=r"is --data, whose corpus would be written over; choose another folder"):
        questions_folder(config)
    assert (data / "corpus.jsonl").read_bytes() == corpus


def test_a_spent_budget_loses_nothing(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with serving(obliging) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server, max_tokens=900, concurrency=2))
        with pytest.raises(BudgetError, match="raise the limit"):
            questions_folder(config)
        n_made = len(server.requests)
        assert 0 < n_made < 40
        more = configure(tmp_path, data=str(english_beir), llm=llm_of(server))
        questions_folder(more)
        assert Counter(json.dumps(r["messages"]) for r in server.requests).most_common(1)[0][1] == 1


def test_a_model_that_answers_rubbish(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with serving(lambda *_: chat("I would be happy to help you with that.")) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server))
        with pytest.raises(DataError, match=r"no question is left for train: no question in the answer \(\d+\); give"):
            questions_folder(config)


@pytest.mark.parametrize("has_llm", [True, False])
def test_own_questions_serve_where_no_other_could_be_made(has_llm: bool, configure: Configure, tmp_path: Path) -> None:
    """The passages are too short to extract a question from, and the model has none."""
    passages = [{"_id": f"p{i}", "text": f"a{i} b{i}"} for i in range(40)]
    english_world.write_jsonl(tmp_path / "corpus.jsonl", passages)
    with serving(lambda *_: chat("I would be happy to help you with that.")) as server:
        llm = llm_of(server) if has_llm else {}
        config = configure(tmp_path, data=str(tmp_path), llm=llm, questions={"paraphrase": False})
        with pytest.raises(DataError, match=r"no question is left for train: .*\n.* for dev: .*\n.* for test"):
            questions_folder(config)
        own = [{"query": f"what is meant by number {i}", "passage_id": f"p{i}"} for i in range(40)]
        english_world.write_jsonl(tmp_path / "own.jsonl", own)
        result = questions_folder(config.model_copy(update={"queries": str(tmp_path / "own.jsonl")}))
    assert sum(result["splits"][split]["queries"] for split in ("train", "dev", "test")) == 40


def test_versions_of_a_document_stand_in_one_split(configure: Configure, tmp_path: Path) -> None:
    """Each document of the corpus has a version with one sentence more; all of them stay."""
    text = " ".join(f"{{0}}{letter} and {{0}}{letter}{letter}" for letter in "abcdefghijkl")
    corpus = [{"_id": f"{kind}{i}", "text": text.format(f"w{i}") + more}
              for i in range(30) for kind, more in (("old", "."), ("new", ". It was read again."))]  # fmt: skip
    english_world.write_jsonl(tmp_path / "corpus.jsonl", corpus)
    own = [{"query": f"what is {row['_id']} about", "passage_id": row["_id"]} for row in corpus]
    english_world.write_jsonl(tmp_path / "own.jsonl", own)
    with serving(lambda *_: chat("[]")) as server:
        config = configure(tmp_path, data=str(tmp_path), queries=str(tmp_path / "own.jsonl"), llm=llm_of(server))
        questions_folder(config)
    collection = load_collection(config.out).collection
    assert len(collection.passages) == 60
    split_of = {passage_id: split for split, judged in collection.splits.items()
                for grades in judged.qrels.values() for passage_id in grades}  # fmt: skip
    assert len(split_of) == 60
    assert all(split_of[f"old{i}"] == split_of[f"new{i}"] for i in range(30))


def test_a_service_that_fails(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with serving(lambda *_: fault(500)) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server))
        with pytest.raises(ServiceError, match="in a row failed"):
            questions_folder(config)
    assert not list(Path(config.out).glob("*.jsonl"))


def test_a_refused_passage_is_counted(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        return fault(400, "content filter") if number == 0 else obliging(request, number)

    with serving(script) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server, concurrency=1))
        questions_folder(config)
    (item,) = [item for item in dropped(config) if item["stage"] == "ask"]
    assert item["reason"] == "the service refuses this passage"
    assert item["text"] == "400 content filter"


def bare_objects(questions: list[str]) -> str:
    return json.dumps([{"question": question} for question in questions])


def between_pipes(questions: list[str]) -> str:
    return f"{' | '.join(questions)} |"


@pytest.mark.parametrize("form", [json.dumps, between_pipes, bare_objects])
def test_answers_that_never_bring_evidence_are_kept(
    form: Callable[[list[str]], str], configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        return chat(form([item["question"] for item in answered(request, number)]))

    with serving(script) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server), questions={"paraphrase": False})
        result = questions_folder(config)
    assert all(result["splits"][split]["queries"] for split in ("train", "dev", "test"))
    assert "evidence" not in {stage["stage"] for stage in result["funnel"]}


def test_objects_without_evidence_are_dropped_and_counted(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        items = answered(request, number)
        return chat(json.dumps([{"question": item["question"]} for item in items] if number == 0 else items))

    with serving(script) as server:
        llm = llm_of(server, concurrency=1)
        config = configure(tmp_path, data=str(english_beir), llm=llm, questions={"paraphrase": False})
        result = questions_folder(config)
        first = answered(server.requests[0], 0)
    (stage,) = [stage for stage in result["funnel"] if stage["stage"] == "evidence"]
    assert stage["reasons"] == {"the model gives no evidence for it": len(first)}
    assert [item["text"] for item in dropped(config) if item["stage"] == "evidence"] == [
        item["question"] for item in first
    ]


def answered(request: dict[str, Any], number: int) -> list[dict[str, str]]:
    """What the obliging model asks, as objects."""
    found: list[dict[str, str]] = json.loads(obliging(request, number).body["choices"][0]["message"]["content"])
    return found


def test_a_judge_without_a_verdict_lets_nothing_pass(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    """Of three questions the judge refuses one, says no word of another and no to the third; all others are fine."""
    verdicts = [fault(400, "content filter"), chat("<think>The passage"), chat("no")]

    def script(request: dict[str, Any], number: int) -> Answer:
        is_judge = "judge whether" in request["messages"][0]["content"]
        return verdicts.pop() if is_judge and verdicts else obliging(request, number)

    with serving(script) as server:
        config = configure(
            tmp_path, data=str(english_beir), llm=llm_of(server, concurrency=1), questions={"judge": True}
        )
        result = questions_folder(config)
        judged_together = [r for r in server.requests if "whether passages answer" in r["messages"][0]["content"]]
    (stage,) = [stage for stage in result["funnel"] if stage["stage"] == "judge"]
    assert stage["reasons"] == {
        "the passage does not answer it": 1,
        "the judge says neither yes nor no": 1,
        "the service refuses to judge it": 1,
    }
    assert sum(item["stage"] == "judge" for item in dropped(config)) == stage["dropped"] == 3
    assert all(len(passages_of(request)) == 2 for request in judged_together)


def test_generate_needs_a_model_to_ask(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="generate needs a language model"):
        questions_folder(configure(tmp_path, data=str(english_beir), questions={"strategy": "generate"}))


def test_extraction_can_be_asked_for_beside_a_model(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with serving(obliging) as server:
        llm = llm_of(server)
        questions_folder(configure(tmp_path, data=str(english_beir), llm=llm, questions={"strategy": "extract"}))
        assert not server.requests


def test_own_questions_of_a_corpus(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    own = [{"query": f"what is meant by number {i}", "passage_id": f"p{i}"} for i in range(40)]
    english_world.write_jsonl(tmp_path / "own.jsonl", own)
    questions_folder(configure(tmp_path, data=str(english_beir), queries=str(tmp_path / "own.jsonl")))
    collection = load_collection(str(tmp_path / "out")).collection
    found = {q.text: judged.qrels[q.query_id] for judged in collection.splits.values() for q in judged.queries}
    assert all(found[line["query"]] == {line["passage_id"]: 1} for line in own)
