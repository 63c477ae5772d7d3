"""Distillation in training: what is drawn and masked, what is counted or refused, whole runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import tiny_world
import torch
from test_resume import Killed, assert_same, deadly, outcome

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import BessemerError, ConfigError, DataError
from bessemer.formats import read_bge_jsonl
from bessemer.training.batches import TrainingData
from bessemer.training.dev_pool import EvaluationPool
from bessemer.training.distillation_task import DistillationTask
from bessemer.training.finetune import Selection, Tuned, finetune
from bessemer.training.losses import FOR_TEACHERS, distillation, info_nce
from bessemer.training.open_trainer import open_trainer
from bessemer.training.tasks import RetrievalTask
from bessemer.types import HardNegatives, Judged, Passage, Query

PASSAGES = tuple(Passage(f"p{i}", f"d{i}", f"w{i} w{10 + i}") for i in range(8))
JUDGED = Judged(
    tuple(Query(name, f"w{100 + i}") for i, name in enumerate("abcd")),
    {"a": {"p0": 1, "p1": 1}, "b": {"p2": 1}, "c": {"p3": 0}},
)
SCORES = {
    "a": {"p0": 3.0, "p1": 2.0, "p5": 1.0, "p6": 0.5},  # of both positives
    "b": {"p5": 2.0, "p6": 1.0},  # of no positive
    "c": {"p3": -4.0, "p7": -1.0, "p4": -1.0, "gone": 9.0},  # no positive: p4 and p7 are best, p4 stands first
}
NEGATIVES = tuple(
    HardNegatives(query, ids, (0.5,) * len(ids), {}, "given")
    for query, ids in (("a", ("p4", "p5")), ("b", ("p4",)), ("d", ("p7",)))
)


def task(
    encoder: DenseEncoder, scores: Mapping[str, Mapping[str, float]] = SCORES, **settings: object
) -> DistillationTask:
    given: dict[str, object] = {"loss": "distillation", "n_negatives": 3, "temperature": 0.1}
    data = TrainingData(JUDGED, PASSAGES, NEGATIVES, teacher_scores=scores)
    return DistillationTask(data, encoder, FinetuneConfig(**{**given, **settings}), 42)


def test_examples_have_their_positive_or_the_teacher_s_best_and_draw_from_the_scored(tiny_static: DenseEncoder) -> None:
    found = task(tiny_static)
    rows = [found.examples[i] for i in range(len(found))]
    ids = [(row.query, row.positive, sorted(row.negatives)) for row in rows]
    assert ids == [
        (0, 0, [1, 5, 6]),  # the other positive is a candidate
        (0, 1, [0, 5, 6]),
        (1, 2, [5, 6]),
        (2, 4, [3, 7]),
    ]


def test_all_that_is_not_as_usual_is_counted(tiny_static: DenseEncoder) -> None:
    alone = {**SCORES, "b": {"p2": 1.0}}
    *counts, temperature = task(tiny_static, alone, n_negatives=2, teacher_temperature=1.0).notes()
    assert counts == [
        "1 train queries without a relevant passage were not trained on",
        "1 of 4 examples have fewer than 2 hard negatives",
        "batch size 4: there are no more examples",
        "1 queries have no relevant passage: the teacher's best candidate stands for it",
        "2 hard negatives of queries with teacher scores have none themselves and are not drawn",
        "1 teacher scores are of passages that the corpus lacks",
        "1 of 4 examples have no candidate but their positive: their teacher has nothing to compare",
        "2 of 4 examples have more candidates than are drawn beside the positive, 2 (n_negatives)",
    ]
    assert temperature.startswith("teacher temperature 1 (as asked): the median query has 2.")
    assert temperature.endswith(" effective candidates of 3")
    unscored = "1 of 4 examples have no teacher score of their positive: trained by InfoNCE alone"
    assert unscored in task(tiny_static).notes()


def test_draws_keep_the_positive_and_change_with_the_epoch(tiny_static: DenseEncoder) -> None:
    found = task(tiny_static, n_negatives=1)
    drawn = []
    for found.turn in range(20):
        row = found.examples[0]
        assert row.positive == 0
        (negative,) = row.negatives
        drawn.append(negative)
    assert set(drawn) == {1, 5, 6}


def test_the_batch_has_the_teacher_s_scores_and_masks_what_it_scored_but_did_not_draw(
    tiny_static: DenseEncoder,
) -> None:
    found = task(tiny_static, n_negatives=2)
    rows = [found.examples[i] for i in range(4)]
    batch = found.batch(range(4))
    columns = batch["columns"].tolist()
    for i, row in enumerate(rows):
        own = SCORES["abcd"[row.query]]
        expected = {p: own[f"p{p}"] for p in (row.positive, *row.negatives) if f"p{p}" in own} if i != 2 else {}
        kept = torch.isfinite(batch["teacher"][i])
        places = batch["candidates"][i][kept].tolist()
        assert {columns[j]: r for j, r in zip(places, batch["teacher"][i][kept].tolist(), strict=True)} == expected
        drawn = {row.positive, *row.negatives}
        scored = {int(p[1:]) for p in own if p != "gone"}
        judged = {0: {0, 1}, 1: {2}, 2: {4}}[row.query]
        masked = {columns[j] for j in batch["excluded"][i].nonzero().flatten().tolist()}
        assert masked == (judged | (scored - drawn)) & set(columns)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_loss_is_the_teacher_s_and_a_share_of_info_nce(
    weight: float, tiny_bert: DenseEncoder, tmp_path: Path
) -> None:
    scores = {**SCORES, "b": {"p2": 1.0, "p5": 2.0}}
    data = TrainingData(JUDGED, PASSAGES, NEGATIVES, teacher_scores=scores)
    config = FinetuneConfig(loss="distillation", n_negatives=3, teacher_temperature=1.5, info_nce_weight=weight)
    trainer = open_trainer([data], tiny_bert, None, config, 42, tmp_path)
    (found,) = trainer.tasks
    tiny_bert.model.eval()
    batch = found.batch(range(4))
    rows = [found.examples[i] for i in range(4)]
    queries = torch.from_numpy(tiny_bert.encode([JUDGED.queries[row.query].text for row in rows], "query"))
    texts = [PASSAGES[p].indexed_text for p in batch["columns"].tolist()]
    passages = torch.from_numpy(tiny_bert.encode(texts, "passage"))
    given = queries, passages, batch["positives"], batch["excluded"]
    teacher = distillation(*given, batch["candidates"], batch["teacher"], temperature=0.05, teacher_temperature=1.5)
    expected = teacher + weight * info_nce(*given, 0.05)
    assert trainer.compute_loss(tiny_bert.model, {"task": found, **batch}).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_margins_are_measured_in_units_of_their_spread(tiny_static: DenseEncoder) -> None:
    found = task(tiny_static, loss="margin_mse")
    vectors = {
        **dict(zip("abcd", tiny_static.encode([q.text for q in JUDGED.queries], "query"), strict=True)),
        **dict(
            zip(
                (p.passage_id for p in PASSAGES), tiny_static.encode([p.text for p in PASSAGES], "passage"), strict=True
            )
        ),
    }
    pairs = [("a", "p0", ("p1", "p5", "p6")), ("a", "p1", ("p0", "p5", "p6")), ("c", "p4", ("p3", "p7"))]
    student = [vectors[q] @ (vectors[p] - vectors[n]) for q, p, ns in pairs for n in ns]
    teacher = [SCORES[q][p] - SCORES[q][n] for q, p, ns in pairs for n in ns]
    spreads = [float(np.sqrt(np.mean(np.square(side)))) for side in (teacher, student)]
    assert found.notes()[-1] == (
        f"margins in units of {spreads[0]:.4g} of the teacher's scores and {spreads[1]:.4g} of the model's"
    )
    same = tuple(dataclasses.replace(passage, text="w0 w1 w2") for passage in PASSAGES)
    data = TrainingData(JUDGED, same, teacher_scores=SCORES)
    with pytest.raises(DataError, match="the model's scores of the positive and of all other candidates are the same"):
        DistillationTask(data, tiny_static, FinetuneConfig(loss="margin_mse", n_negatives=3), 42)


def test_margins_are_measured_of_queries_with_their_history(tiny_static: DenseEncoder) -> None:
    """One margin: of "w100" after "w9 w16", which is asked as both lines."""
    query = Query("a", "w100", history=("w9 w16",))
    judged = Judged((query,), {"a": {"p0": 1}})
    data = TrainingData(judged, PASSAGES, teacher_scores={"a": {"p0": 3.0, "p6": 1.0}})
    found = DistillationTask(data, tiny_static, FinetuneConfig(loss="margin_mse"), 42)
    asked = tiny_static.encode(["w100\nw9 w16"], "query")[0]
    positive, candidate = tiny_static.encode([PASSAGES[0].text, PASSAGES[6].text], "passage")
    student = abs(float(asked @ (positive - candidate)))
    assert found.notes()[-1] == f"margins in units of 2 of the teacher's scores and {student:.4g} of the model's"


FIX = "add scores with `bessemer teacher`, or choose another --loss"


@pytest.mark.parametrize(
    ("scores", "settings", "problems"),
    [
        ({}, {}, [f": no train query has any, and `distillation` learns from them; {FIX}"]),
        (
            {"a": {"p0": float("nan")}, "c": {"p3": float("inf"), "p4": 1.0}, "b": {"p2": 1.0}},
            {},
            [f" of {q}: hold what is no number; give finite numbers, or leave the query's scores out" for q in "ac"],
        ),
        (
            {"a": {"p0": 1.0, "p5": 1.0}, "c": {"p3": 2.0}},
            {},
            [f": are the same for all passages of each query (2 queries): there is nothing to learn; {FIX}"],
        ),
        (
            {"b": {"p5": 2.0, "p6": 1.0}},
            {},
            [f": no train query has two scored passages, one of them its positive; {FIX}"],
        ),
        (
            {"a": {"p0": 1.0, "p5": 2.0}},
            {"info_nce_weight": 0},
            [
                f": query {q} has no score of its positive {p}; add it, or give info_nce_weight more than 0"
                for q, p in (("a", "p1"), ("b", "p2"))
            ],
        ),
    ],
)
def test_scores_that_teach_nothing_are_refused(
    scores: Mapping[str, Mapping[str, float]],
    settings: dict[str, object],
    problems: list[str],
    tiny_static: DenseEncoder,
) -> None:
    with pytest.raises(DataError) as error:
        task(tiny_static, scores, **settings)
    assert str(error.value).splitlines() == [f"train:-:teacher_scores{problem}" for problem in problems]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_negatives": 0}, "`distillation` compares candidates with the positive; set --n-negatives"),
        ({"refresh_steps": 2}, "leave frozen_passages and refresh_steps out"),
        ({"frozen_passages": True}, "leave frozen_passages and refresh_steps out"),
        ({"info_nce_weight": 0, "symmetric": True}, "info_nce_weight: is 0, and symmetric"),
        ({"matryoshka_dims": (17,)}, r"matryoshka_dims: \[17\] not within"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, object], message: str, tiny_static: DenseEncoder
) -> None:
    with pytest.raises(ConfigError, match=message):
        task(tiny_static, {**SCORES, "b": {"p2": 1.0, "p5": 2.0}}, **settings)


@pytest.mark.parametrize("frozen", [False, True])
def test_scores_that_the_loss_does_not_use_are_told(frozen: bool, tiny_static: DenseEncoder, tmp_path: Path) -> None:
    data = TrainingData(JUDGED, PASSAGES, NEGATIVES, teacher_scores=SCORES)
    config = FinetuneConfig(max_steps=1, frozen_passages=frozen)
    notes = finetune([data], tiny_static, None, config, 42, tmp_path).report.notes
    assert "the teacher scores of 3 queries are not used: `info_nce` learns from judgements alone" in notes


def taught(n_candidates: int = 6) -> TrainingData:
    """The tiny world with a teacher that ranks each query's passage first and the next numbers below it; a third of the
    queries has no judgement."""
    train, n = tiny_world.train(), tiny_world.N_PAIRS
    scores = {f"q{i}": {f"p{(i + j) % n}": -0.5 * j for j in range(n_candidates)} for i in range(n)}
    judged = Judged(train.queries, {q: grades for q, grades in train.qrels.items() if int(q[1:]) % 3})
    return TrainingData(judged, tiny_world.passages(), teacher_scores=scores)


def fit(encoder: DenseEncoder, folder: Path, loss: str, dev: EvaluationPool | None = None, **settings: object) -> Tuned:
    given = {"per_device_train_batch_size": 8, "max_steps": 8, "eval_steps": 2, "learning_rate": 0.02}
    given |= {"n_negatives": 3, "early_stopping_patience": 9, "loss": loss}
    selection = Selection(dev or tiny_world.dev_pool(), None, 1.0)
    return finetune([taught()], encoder, selection, FinetuneConfig(**{**given, **settings}), 42, folder)


@pytest.mark.parametrize("loss", FOR_TEACHERS)
def test_every_loss_learns_the_teacher_s_order(loss: str, tiny_static: DenseEncoder, tmp_path: Path) -> None:
    def agreement(encoder: DenseEncoder) -> float:
        """Of the pairs of candidates, the share that the encoder orders as the teacher does."""
        data = taught(n_candidates=4)
        texts = {passage.passage_id: passage.indexed_text for passage in data.passages}
        right = []
        for query in data.judged.queries:
            ranked = sorted(data.teacher_scores[query.query_id], key=data.teacher_scores[query.query_id].get)
            found = encoder.encode([texts[p] for p in ranked], "passage") @ encoder.encode([query.text], "query")[0]
            right += [found[i] < found[j] for j in range(len(ranked)) for i in range(j)]
        return float(np.mean(right))

    before = agreement(tiny_static)
    config = FinetuneConfig(
        loss=loss, n_negatives=3, per_device_train_batch_size=10, max_steps=24, learning_rate=0.1, info_nce_weight=0.1
    )
    tuned = finetune([taught(n_candidates=4)], tiny_static, None, config, 42, tmp_path)
    assert before < 0.6
    assert agreement(load_encoder(str(tuned.model), device="cpu")) > 0.8  # InfoNCE alone: 0.65
    assert "7 queries have no relevant passage: the teacher's best candidate stands for it" in tuned.report.notes


@pytest.mark.parametrize("fresh_encoder", ["bert"], indirect=True)
@pytest.mark.parametrize("loss", ["stable_distillation", "margin_mse"])
def test_a_stopped_run_goes_on_to_the_same_weights(
    loss: str, fresh_encoder: Callable[[], DenseEncoder], tmp_path: Path
) -> None:
    whole = fit(fresh_encoder(), tmp_path / "whole", loss)
    with pytest.raises(Killed):
        fit(fresh_encoder(), tmp_path / "broken", loss, deadly(tiny_world.dev_pool(), 2))
    again = fit(fresh_encoder(), tmp_path / "broken", loss)
    assert_same(tmp_path / "whole", tmp_path / "broken")
    assert outcome(again) == outcome(whole)


@pytest.mark.parametrize("loss", FOR_TEACHERS)
def test_a_step_by_grad_cache_has_the_plain_step_s_gradient(
    loss: str, tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig(loss=loss, n_negatives=4, bf16=False, mini_batch_tokens=64, matryoshka_dims=(8,))
    trainer = open_trainer([taught()], tiny_bert, None, config, 42, tmp_path)
    (found,) = trainer.tasks
    trainer.current_gradient_accumulation_steps = 1  # what train() sets

    def step(whole_graph: int) -> tuple[float, torch.Tensor]:
        monkeypatch.setattr("bessemer.training.trainer.whole_graph_tokens", lambda _: whole_graph)
        tiny_bert.model.zero_grad()
        torch.manual_seed(3)
        value = trainer.step_on(tiny_bert.model, found, found.batch(range(20)))
        gradients = [p.grad for p in tiny_bert.model.parameters() if p.grad is not None]
        return value.item(), torch.cat([g.flatten() for g in gradients]).clone()

    assert len(found.mini_batches(found.batch(range(20)))) > 2
    (plain_loss, plain), (value, cached) = step(10**9), step(0)
    assert tiny_bert.model.training  # dropout was on
    assert value == pytest.approx(plain_loss, rel=1e-6)
    assert plain.norm() > 0.01
    assert (cached - plain).norm() / plain.norm() < 1e-5


def test_a_batch_without_a_finite_loss_is_written_with_the_scores(tiny_bert: DenseEncoder, tmp_path: Path) -> None:
    with pytest.raises(BessemerError, match=r"is nan at step 2; .*failed_batch.jsonl"):
        fit(tiny_bert, tmp_path, "distillation", learning_rate=1e30, warmup_steps=0, eval_steps=8)
    loaded = read_bge_jsonl(tmp_path / "failed_batch.jsonl")
    assert len(loaded.teacher_scores) in (6, 7)  # of 20 examples in three batches
    scores = taught().teacher_scores
    assert all(scores[query][p] == r for query, own in loaded.teacher_scores.items() for p, r in own.items())
    assert all(len(own) == 4 for own in loaded.teacher_scores.values())


def test_beside_a_task_of_judged_queries(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    judged = TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives(), name="judged")
    settings = FinetuneConfig(loss="stable_distillation", n_negatives=3, teacher_temperature=0.5)
    other = dataclasses.replace(taught(), name="chat", settings=settings)
    trainer = open_trainer([judged, other], tiny_static, None, FinetuneConfig(), 42, tmp_path)
    assert [type(part) for part in trainer.tasks] == [RetrievalTask, DistillationTask]
    config = FinetuneConfig(max_steps=4, learning_rate=0.05)
    notes = finetune([judged, other], tiny_static, None, config, 42, tmp_path).report.notes
    assert any(note.startswith("chat: teacher temperature 0.5 (as asked)") for note in notes)
    assert not any(note.startswith("judged: teacher") for note in notes)
