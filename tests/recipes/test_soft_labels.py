"""`adapt` with a teacher: it scores what was mined, once, and the model learns from that."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bessemer.config import Config
from bessemer.encoders.load import load_encoder
from bessemer.errors import BudgetError, ConfigError, DataError
from bessemer.recipes.adapt import adapt, plan
from bessemer.recipes.data import load_judged, open_encoder
from bessemer.recipes.final_fit import fit_on_everything
from bessemer.recipes.plan import plan_summary
from bessemer.recipes.soft_labels import Answered, soft_labels, teacher_of, unused, with_reference_answers
from bessemer.types import HardNegatives, Judged, Passage, Query
from bessemer.workspace import Workspace
from scripted_llm import Answer, Scripted, chat, serving
from tiny_llm import save_causal_lm

Configure = Callable[..., Config]

PASSAGES = [Passage(f"p{i}", f"d{i}", text) for i, text in enumerate(("steel from iron", "ore and coke", "a river"))]
TRAIN = Judged(
    (Query("q1", "how is steel made", answers=("from iron",)), Query("q2", "what is smelted")),
    {"q1": {"p0": 1}, "q2": {"p1": 1, "p9": 1}},
)
MINED = [HardNegatives(f"q{i}", ("p2", "p0"), (0.1, 0.1), {}, "top_k") for i in (1, 2)]
LOSS = {"loss": "stable_distillation", "n_negatives": 2, "learning_rate": 0.05, "max_steps": 4}


def test_an_embedder_scores_what_was_mined(configure: Configure, english_model: Path, tmp_path: Path) -> None:
    teacher = {"kind": "embedder", "model": str(english_model)}
    judge = teacher_of(configure(tmp_path, finetune=LOSS, teacher=teacher), None)
    assert judge is not None
    labels = soft_labels(TRAIN, PASSAGES, MINED, "", judge)
    assert {query: set(scores) for query, scores in labels.scores.items()} == {
        "q1": {"p0", "p2"},
        "q2": {"p1", "p2", "p0"},
    }
    encoder = load_encoder(str(english_model), device="cpu")
    query, passage = encoder.encode_queries(["how is steel made"]).dense, encoder.encode_passages(["a river"]).dense
    assert query is not None
    assert passage is not None
    assert labels.scores["q1"]["p2"] == pytest.approx(float(np.dot(query[0], passage[0])), abs=1e-6)
    assert labels.notes == ()
    again = soft_labels(TRAIN, PASSAGES, MINED, "", judge)
    assert (again.account["pairs"], again.account["kept_from_before"]) == (5, 5)


def test_a_language_model_weighs_answers(configure: Configure, tmp_path: Path) -> None:
    save_causal_lm(tmp_path / "llama")
    teacher = {"kind": "llm", "model": str(tmp_path / "llama")}
    judge = teacher_of(configure(tmp_path, finetune=LOSS, teacher=teacher), None)
    assert judge is not None
    labels = soft_labels(TRAIN, PASSAGES, MINED, "", judge)
    assert set(labels.scores) == {"q1"}
    assert all(score < 0 for score in labels.scores["q1"].values())
    assert labels.notes == ("1 train queries have no answer, and so no teacher scores",)
    with pytest.raises(DataError, match="no query has one for the teacher to weigh; give --llm"):
        soft_labels(Judged(TRAIN.queries[1:], TRAIN.qrels), PASSAGES, MINED, "", judge)


def test_answers_are_written_where_there_are_none(configure: Configure, tmp_path: Path) -> None:
    from bessemer.recipes.generated import open_llm

    with serving(lambda *_: chat("Ore is smelted [1], with coke [1].")) as server:
        config = configure(tmp_path, llm={"url": server.url, "model": "m"})
        with open_llm(config) as llm:
            answered = with_reference_answers(TRAIN, PASSAGES, llm)
    assert (answered.llm["calls"], answered.llm["input_tokens"], answered.llm["output_tokens"]) == (1, 10, 5)
    assert answered.n_generated == 1
    assert [query.answers for query in answered.judged.queries] == [("from iron",), ("Ore is smelted, with coke.",)]
    assert len(server.requests) == 1
    assert "ore and coke" in server.users()[0]
    assert with_reference_answers(TRAIN, PASSAGES, None) == Answered(TRAIN, {})
    unjudged = Judged((Query("q3", "nobody knows"),), {})
    assert with_reference_answers(unjudged, PASSAGES, None) == Answered(unjudged, {})


def test_what_the_model_cannot_answer_stays_without(configure: Configure, tmp_path: Path) -> None:
    from bessemer.recipes.generated import open_llm

    with (
        serving(lambda *_: chat("NOT IN THE DOCUMENTS")) as server,
        open_llm(configure(tmp_path, llm={"url": server.url, "model": "m"})) as llm,
    ):
        answered = with_reference_answers(TRAIN, PASSAGES, llm)
    assert answered.judged.queries[1].answers == ()
    assert answered.n_generated == 0


def test_adapt_learns_from_a_teacher(
    configure: Configure, english_beir: Path, english_model: Path, tmp_path: Path
) -> None:
    teacher = {"kind": "embedder", "model": str(english_model)}
    config = configure(tmp_path, data=str(english_beir), finetune=LOSS, teacher=teacher)
    report = adapt(config)
    assert report["teacher"]["pairs"] > 24
    assert report["settings"]["finetune"]["loss"] == "stable_distillation"
    assert any("teacher temperature" in note for note in report["training"]["notes"])
    assert adapt(config)["teacher"] == report["teacher"]  # as a step that is done


def test_adapt_by_likelihood_of_written_answers(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    def script(request: dict[str, Any], _: int) -> Answer:
        return chat("It does what its name says [1].")

    save_causal_lm(tmp_path / "llama")
    with serving(script) as server:
        config = configure(
            tmp_path,
            data=str(english_beir),
            finetune=LOSS,
            negatives={"n_negatives": 3},
            teacher={"kind": "llm", "model": str(tmp_path / "llama")},
            llm={"url": server.url, "model": "m"},
        )
        report = adapt(config)
        assert len(server.requests) == 24  # one for each train query, which has no answer
    assert report["teacher"]["pairs"] >= 24
    assert report["teacher"]["answers_generated"] == 24
    assert "24 answers were written by a language model for the teacher to weigh" in report["training"]["notes"]


def test_the_final_fit_says_what_its_teacher_could_not_score(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    """Queries of train have an answer to weigh, the 8 of dev and 16 of test have none."""
    save_causal_lm(tmp_path / "llama")
    teacher = {"kind": "llm", "model": str(tmp_path / "llama")}
    config = configure(tmp_path, data=str(english_beir), finetune=LOSS, teacher=teacher)
    material = load_judged(config, require=("train", "test"))
    splits = dict(material.collection.splits)
    answered = tuple(replace(query, answers=("iron",)) for query in splits["train"].queries)
    splits["train"] = Judged(answered, splits["train"].qrels)
    material = replace(material, collection=replace(material.collection, splits=splits))
    measured: Any = SimpleNamespace(interpolation=None, best_step=4, batch_size=8)
    base, judge = open_encoder(config, config.model), teacher_of(config, None)
    with Workspace(config.workspace, seed=config.seed) as workspace:
        final = fit_on_everything(config, workspace, material, measured, base, None, judge)
    assert "Of its teacher: 24 train queries have no answer" in final.account["note"]


def answers_and_likelihoods(request: dict[str, Any], _: int) -> Answer:
    """A model of both kinds of calls: a chat takes 10 + 5 tokens, a likelihood 100 + 1."""
    if "messages" in request:
        return chat("It does what its name says [1].")
    tokens = [*re.findall(r"\s*\S+|\s+", request["prompt"]), " more"]
    told = {"tokens": tokens, "token_logprobs": [None, *[-0.01 * len(tokens)] * (len(tokens) - 1)]}
    usage = {"prompt_tokens": 100, "completion_tokens": 1}
    return Answer({"choices": [{"text": request["prompt"] + " more", "logprobs": told}], "usage": usage})


def by_endpoint(configure: Configure, root: Path, data: Path, server: Scripted, **budget: float) -> Config:
    return configure(
        root,
        data=str(data),
        finetune=LOSS,
        negatives={"n_negatives": 3},
        teacher={"kind": "llm"},
        llm={"url": server.url, "model": "m", "input_price": 1, "output_price": 2, "concurrency": 1, **budget},
    )


def test_the_report_counts_every_call_of_the_run(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with serving(answers_and_likelihoods) as server:
        config = by_endpoint(configure, tmp_path, english_beir, server)
        before = plan(config)
        report = adapt(config)
        n_calls = len(server.requests)
        n_chats = sum("messages" in request for request in server.requests)
        again = adapt(config)
        after = plan(config)
        last = plan(config.model_copy(update={"final_fit": True}))
        assert len(server.requests) == n_calls
    assert (before["llm_unknown"], before["llm_cost"]) == (["answers", "teacher"], None)
    assert "language model: calls for answers and teacher are not known yet" in plan_summary(before)
    assert {step["state"] for step in after["steps"]} == {"cached"}
    assert (after["llm_unknown"], after["llm_cost"]) == ([], 0.0)
    assert (last["llm_unknown"], last["llm_cost"]) == (["final fit"], None)  # it would ask for dev and test

    n_scored = n_calls - n_chats
    llm, of_teacher = report["data"]["llm"], report["teacher"]["llm"]
    assert n_chats == 24
    assert (llm["model"], llm["calls"], of_teacher["calls"]) == ("m", n_calls, n_scored)
    assert llm["cost"] == pytest.approx((n_chats * (10 + 2 * 5) + n_scored * (100 + 2 * 1)) / 1e6)
    assert again["data"]["llm"] == llm
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"<dt>calls</dt><dd>{n_calls}</dd>" in page
    assert f"<dt>cost</dt><dd>{llm['cost']:.4f}</dd>" in page
    assert f"<dt>pairs</dt><dd>{report['teacher']['pairs']}</dd>" in page


def test_the_teacher_spends_from_the_same_budget(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    """24 answers take 360 tokens; 16 likelihoods more would be 1,976, and the next might pass 2,000."""
    with serving(answers_and_likelihoods) as server:
        with pytest.raises(BudgetError, match="--max-tokens 2,000"):
            adapt(by_endpoint(configure, tmp_path, english_beir, server, max_tokens=2_000))
        n_chats = sum("messages" in request for request in server.requests)
        n_scored = len(server.requests) - n_chats
    assert n_chats == 24
    assert 0 < n_scored <= 16


def test_a_loss_that_needs_a_teacher_says_so_at_once(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learns from a teacher; give --teacher cross-encoder and --teacher-model"):
        adapt(configure(tmp_path, data=str(english_beir), finetune=LOSS))
    assert not (tmp_path / "workspace" / "steps").exists() or not list((tmp_path / "workspace" / "steps").iterdir())


def test_no_teacher_for_other_losses(configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert teacher_of(configure(tmp_path, teacher={"kind": "embedder", "model": "nowhere"}), None) is None
    (warning,) = caplog.messages
    assert warning.startswith("--teacher is not used: --loss is none that learns from one")


@pytest.mark.parametrize(
    ("given", "is_asked"),
    [
        ({"data": "d"}, False),
        ({"source": "s"}, True),
        ({"source": "s", "questions": {"strategy": "extract"}}, False),
        ({"data": "d", "finetune": LOSS}, True),
        ({"data": "d", "finetune": LOSS, "teacher": {"kind": "embedder", "model": "e"}}, False),
    ],
)
def test_a_language_model_that_nothing_asks_is_named(
    given: dict[str, Any], is_asked: bool, configure: Configure, tmp_path: Path
) -> None:
    notes = unused(configure(tmp_path, llm={"url": "http://localhost:1"}, **given))
    assert notes == [] if is_asked else [note.split(":")[0] for note in notes] == ["--llm is not asked"]
    assert not unused(configure(tmp_path, **given))
