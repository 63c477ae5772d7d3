"""Questions to a real index over a real socket; the language model is scripted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bessemer.config import Config, LLMConfig
from bessemer.errors import BudgetError, ConfigError, ServiceError
from bessemer.formats.lines import write_jsonl
from bessemer.recipes.ask import ask, plan_ask
from bessemer.recipes.index import index
from bessemer.recipes.summary import WIDTH, answer_summary
from bessemer.search.index import open_index
from scripted_llm import Answer, chat, fault, serving

Configure = Callable[..., Config]

DOCUMENTS = {
    "pump.md": "# Pump\n\nThe pump may start twelve times an hour. Above that, the controller locks the motor.\n",
    "codes.md": "# Codes\n\nCode E17 on the display means that the motor is locked until the pump has cooled down.\n",
    "filter.md": "# Filter\n\nRinse the filter with clear water every month and let it dry before it goes back.\n",
}


def diligent(request: dict[str, Any], number: int) -> Answer:
    """Cites the first passage that holds a rare word of the question; finds nothing where there is none."""
    del number
    user = request["messages"][-1]["content"]
    if "keywords" in request["messages"][0]["content"]:
        return chat('["filter", "rinse"]')
    question = re.search(r"<question \w+>\n(.*)\n</question", user)
    assert question
    words = {word for word in re.findall(r"\w+", question.group(1).casefold()) if len(word) > 4}
    for n, text in re.findall(r"<passage (\d+) \w+>\n(.*?)\n</passage", user, re.DOTALL):
        if words & set(re.findall(r"\w+", text.casefold())):
            return chat(f"It says so there [{n}].")
    return chat("NOT IN THE DOCUMENTS")


@pytest.fixture
def indexed(tmp_path: Path) -> Callable[..., Config]:
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in DOCUMENTS.items():
        (folder / name).write_text(text, encoding="utf-8")

    def make(url: str = "", **given: Any) -> Config:
        llm = {"url": url, "model": "m", "max_retries": 0} if url else {}
        config = Config(
            source=str(folder), model="minilm", device="cpu", out=str(tmp_path / "index"),
            workspace=str(tmp_path / "workspace"), llm=llm, **given,
        )  # fmt: skip
        index(config)
        return config

    return make


def test_an_answer_with_its_passage(indexed: Callable[..., Config]) -> None:
    with serving(diligent) as server:
        config = indexed(server.url)
        found = ask(config, [config.out], "How often may the thing start before it is locked?", top_k=2)
    assert found["found"]
    assert found["answer"] == "It says so there [1]."
    (citation,) = found["citations"]
    assert citation["doc_id"] in ("pump.md", "codes.md")
    assert citation["text"] in server.users()[0]
    assert len(found["passages"]) == 2
    text = answer_summary(found)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert f"[1] {citation['passage_id']}" in text


def test_a_dry_run_counts_the_calls_and_makes_none(indexed: Callable[..., Config]) -> None:
    question = "How often may the thing start before it is locked?"
    with serving(diligent) as server:
        config = indexed(server.url)
        planned = plan_ask(config, [config.out], question, top_k=2, ways=["keywords"], where=())
        assert server.requests == []
        assert (planned["llm"]["calls"], planned["llm"]["calls_kept"]) == (2, 0)
        used = ask(config, [config.out], question, top_k=2, ways=["keywords"])["llm"]
        assert used["calls"] == len(server.requests) == 2
        assert used["output_tokens"] <= planned["llm"]["output_tokens"]
        kept = plan_ask(config, [config.out], question, top_k=2, ways=["keywords"], where=())["llm"]
    assert kept["calls_kept"] >= 1  # that of the keywords; what they add to the passages is another request
    with pytest.raises(ConfigError, match="--rewrite shout: unknown"):
        plan_ask(config, [config.out], question, top_k=2, ways=["shout"], where=())
    with pytest.raises(ConfigError, match="ask needs a language model"):
        plan_ask(config.model_copy(update={"llm": LLMConfig()}), [config.out], question, top_k=2, ways=(), where=())


@pytest.mark.parametrize("question", ["Which colour does invoice paper have?", "Who founded Rome?"])
def test_what_the_documents_do_not_hold(question: str, indexed: Callable[..., Config]) -> None:
    with serving(diligent) as server:
        config = indexed(server.url)
        found = ask(config, [config.out], question)
    assert (found["found"], found["answer"], found["citations"]) == (False, "", [])
    assert answer_summary(found).startswith("not in the documents: the language model finds no answer")


def test_an_answer_without_a_source_is_not_told(indexed: Callable[..., Config]) -> None:
    with serving(lambda *_: chat("Forty-two, I am sure.")) as server:
        config = indexed(server.url)
        found = ask(config, [config.out], "How often may the pump start?")
    assert not found["found"]
    assert "cites no passage" in found["reason"]
    assert "Forty-two" not in answer_summary(found)


def test_answers_are_remembered_until_what_they_rest_on_changes(indexed: Callable[..., Config]) -> None:
    with serving(diligent) as server:
        config = indexed(server.url)
        first = ask(config, [config.out], "How often may the pump start in an hour?")
        again = ask(config, [config.out], "how often may the pump start in an hour")
        assert len(server.requests) == 1
        assert again["cached"] == "How often may the pump start in an hour?"
        assert again["answer"] == first["answer"]
        assert "answered before" in answer_summary(again)
        assert ask(config, [config.out], "how often may pump 7 start in an hour")["cached"] is None
        Path(config.source or "", "pump.md").write_text("# Pump\n\nThe pump may start six times an hour, no more.\n")
        index(config)
        changed = ask(config, [config.out], "How often may the pump start in an hour?")
        assert changed["cached"] is None
        assert "six times" in server.users()[-1]
        n_calls = len(server.requests)
        ask(config, [config.out], "How often may the pump start in an hour?", use_cache=False)
        assert len(server.requests) == n_calls  # the request itself is kept


@pytest.mark.parametrize("verdict", ["yes", "no"])
def test_a_question_that_asks_the_same_gets_the_answer_of_before(verdict: str, indexed: Callable[..., Config]) -> None:
    asked, again = "How often may the pump start in an hour?", "How many times per hour may the pump start?"

    def script(request: dict[str, Any], number: int) -> Answer:
        compared = "Two questions of people" in request["messages"][0]["content"]
        return chat(verdict) if compared else diligent(request, number)

    with serving(script) as server:
        config = indexed(server.url)
        first = ask(config, [config.out], asked)
        second = ask(config, [config.out], again)
        assert [again in user and asked in user for user in server.users()[:2]] == [False, True]
        assert second["question"] == again
        if verdict == "no":
            assert second["cached"] is None
            assert len(server.requests) == 3
            return
        assert (second["cached"], second["answer"], second["llm"]["calls"]) == (asked, first["answer"], 1)
        assert f"answered before, as: {asked}" in " ".join(answer_summary(second).split())
        assert ask(config, [config.out], again)["cached"] == asked
        assert len(server.requests) == 2
        Path(config.source or "", "pump.md").write_text("# Pump\n\nThe pump may start six times an hour, no more.\n")
        index(config)
        assert ask(config, [config.out], again)["cached"] is None
        assert "six times" in server.users()[-1]


def test_keywords_are_a_lane_of_their_own(indexed: Callable[..., Config]) -> None:
    with serving(diligent) as server:
        config = indexed(server.url)
        found = ask(config, [config.out], "Wie wird das Sieb gereinigt?", ways=["keywords"], top_k=1)
    assert found["rewritten"]["keywords"] == ["filter", "rinse"]
    assert found["passages"][0].startswith("filter.md")


def test_an_answer_is_forgotten_when_a_passage_changes_that_only_its_keywords_found(
    indexed: Callable[..., Config],
) -> None:
    question = "How often may the pump start before the motor is locked?"
    given: dict[str, Any] = {"ways": ["keywords"], "top_k": 2}
    with serving(diligent) as server:
        config = indexed(server.url)
        plain = ask(config, [config.out], question, top_k=2)["passages"]
        first = ask(config, [config.out], question, **given)["passages"]
        assert [any(p.startswith("filter.md") for p in found) for found in (plain, first)] == [False, True]
        n_calls = len(server.requests)
        assert ask(config, [config.out], question, **given)["cached"] == question
        assert len(server.requests) == n_calls
        Path(config.source or "", "filter.md").write_text("# Filter\n\nRinse the filter with hot water, every week.\n")
        index(config)
        changed = ask(config, [config.out], question, **given)
    assert changed["cached"] is None
    assert "every week" in server.users()[-1]


def test_other_rewriting_shares_no_answer(indexed: Callable[..., Config], tmp_path: Path) -> None:
    feedback = tmp_path / "feedback.jsonl"

    def script(request: dict[str, Any], number: int) -> Answer:
        return chat("no keywords") if request["model"] == "small" else diligent(request, number)

    with serving(script) as server:
        config = indexed(server.url)
        small = config.model_copy(update={"llm": config.llm.model_copy(update={"rewrite_model": "small"})})
        (filter_id,) = (p.passage_id for p in open_index(config.out).passages() if p.doc_id == "filter.md")

        def cached(config: Config, **given: Any) -> bool:
            question = "How often may the pump start?"
            found = [ask(config, [config.out], question, top_k=3, **given)["cached"] for _ in range(2)]
            assert found[1] == question
            return found[0] is not None

        assert not cached(config)
        assert not cached(config, ways=["keywords"])
        assert not cached(config, ways=["keywords", "hyde"])
        assert not cached(small, ways=["keywords"])
        write_jsonl(feedback, [{"query": "How do I clean the sieve?", "passage_id": filter_id, "helpful": True}])
        assert not cached(config, ways=["keywords"], feedback=str(feedback))
        write_jsonl(feedback, [{"query": "How is the sieve rinsed?", "passage_id": filter_id, "helpful": True}])
        assert not cached(config, ways=["keywords"], feedback=str(feedback))
        assert cached(config, ways=["keywords"])  # as before, and nothing of it was forgotten


def test_a_model_of_its_own_for_rewriting(indexed: Callable[..., Config]) -> None:
    with serving(diligent) as server:
        config = indexed(server.url)
        llm = config.llm.model_copy(update={"rewrite_model": "small"})
        found = ask(
            config.model_copy(update={"llm": llm}), [config.out], "Wie wird das Sieb gereinigt?", ways=["keywords"]
        )
        tight = config.model_copy(update={"llm": llm.model_copy(update={"max_tokens": 700})})
        with pytest.raises(BudgetError):  # 15 tokens for the keywords leave too few for the answer
            ask(tight, [config.out], "Wie wird das Filterglas gereinigt?", ways=["keywords"])
    assert [request["model"] for request in server.requests[:2]] == ["small", "m"]
    assert found["rewritten"]["keywords"] == ["filter", "rinse"]
    assert found["llm"]["calls"] == 2  # on one account


def test_feedback_that_is_not_there(indexed: Callable[..., Config], tmp_path: Path) -> None:
    with serving(diligent) as server:
        config = indexed(server.url)
        with pytest.raises(ConfigError, match=r"gone\.jsonl: cannot be read"):
            ask(config, [config.out], "why?", ways=["keywords"], feedback=str(tmp_path / "gone.jsonl"))


def test_a_slow_rewriter_holds_nobody_up(
    indexed: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        if "keywords" in request["messages"][0]["content"]:
            time.sleep(3)
        return diligent(request, number)

    monkeypatch.setattr("bessemer.recipes.ask.REWRITE_SECONDS", 0.3)
    with serving(script) as server:
        config = indexed(server.url)
        found = ask(config, [config.out], "How often may the pump start?", ways=["keywords"])
    assert found["found"]
    assert found["rewritten"]["keywords"] == []
    assert "searched without keywords: " in caplog.text


def test_without_a_model_to_ask(indexed: Callable[..., Config]) -> None:
    config = indexed()
    with pytest.raises(ConfigError, match="ask needs a language model"):
        ask(config, [config.out], "why?")


def test_a_model_that_is_down(indexed: Callable[..., Config]) -> None:
    with serving(lambda *_: fault(500)) as server:
        config = indexed(server.url)
        with pytest.raises(ServiceError, match="1 of 1 calls failed"):
            ask(config, [config.out], "How often may the pump start?")


def test_several_indexes_of_which_the_model_chooses(indexed: Callable[..., Config], tmp_path: Path) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        if "which of several collections" not in request["messages"][0]["content"]:
            return diligent(request, number)
        return chat("Surely the second: [2]" if "invoice" in request["messages"][-1]["content"] else "[]")

    office = tmp_path / "office"
    office.mkdir()
    (office / "paper.md").write_text("# Paper\n\nEvery invoice is printed on yellow paper.\n", encoding="utf-8")
    with serving(script) as server:
        config = indexed(server.url)
        second = config.model_copy(update={"source": str(office), "out": str(tmp_path / "office-index")})
        index(second)
        folders = [config.out, second.out]
        routed = ask(config, folders, "On which paper is an invoice printed?")
        everywhere = ask(config, folders, "How often may the pump start?", top_k=2)
        n_calls = len(server.requests)
        again = ask(config, folders, "On which paper is an invoice printed")
    assert routed["indexes"] == [second.out]
    assert {citation["index"] for citation in routed["citations"]} == {second.out}
    assert everywhere["indexes"] == folders  # it named none
    assert len(everywhere["passages"]) == 2
    assert everywhere["passages"][0].startswith(("pump.md", "codes.md"))
    assert everywhere["passages"][1].startswith("paper.md")
    assert again["cached"] == "On which paper is an invoice printed?"
    assert len(server.requests) == n_calls
    assert f"({second.out})" not in answer_summary(routed)
    assert f"({config.out})" in answer_summary(everywhere)


def test_without_an_index(indexed: Callable[..., Config]) -> None:
    with serving(diligent) as server, pytest.raises(ConfigError, match="needs --index"):
        ask(indexed(server.url), [], "why?")


def test_what_people_found_helpful_is_an_example(
    indexed: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feedback = tmp_path / "feedback.jsonl"
    with serving(diligent) as server:
        config = indexed(server.url)
        passages = {p.doc_id: p.passage_id for p in open_index(config.out).passages()}
        lines = [
            {"query": "How do I clean the sieve?", "passage_id": passages["filter.md"], "helpful": True},
            {"query": "What does E17 mean?", "passage_id": passages["codes.md"], "helpful": False},
            {"query": "Elsewhere?", "passage_id": "nowhere", "helpful": True},
        ]
        write_jsonl(feedback, lines)
        ask(config, [config.out], "Wie wird das Sieb gereinigt?", ways=["keywords"], feedback=str(feedback))
        asked = server.users()[0]
        write_jsonl(feedback, lines[1:])
        found = ask(config, [config.out], "Wie wird der Motor frei?", ways=["keywords"], feedback=str(feedback))
    assert asked.count("<example ") == 1
    assert "How do I clean the sieve?" in asked
    assert "rinse" in asked
    assert "E17" not in asked
    assert asked.endswith("</query " + asked.rsplit(" ", 1)[1])
    assert found["rewritten"]["keywords"]
    assert "no examples to rewrite by" in caplog.text
