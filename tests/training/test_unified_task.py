"""Training of several representations: the lean, packed, cached and shared-out ways are the plain one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import several
import tiny_world
import torch
import unified_world
from safetensors.torch import load_file, save_file
from test_processes import crowded, difference, judged_by_a_teacher, sentence_pairs
from torch import Tensor
from torch.nn import functional as F

from bessemer.config import FinetuneConfig
from bessemer.encoders.load import load_encoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.errors import ConfigError
from bessemer.training import trainer as trainer_module
from bessemer.training.distributed import joined_processes
from bessemer.training.open_trainer import open_trainer

N_QUERIES = 32
CASES: dict[str, dict[str, Any]] = {
    "all lanes": {"head": "unified", "self_distillation": True, "self_distillation_start": 0},
    "without self-distillation": {"head": "unified", "n_negatives": 2},
    "sparse alone": {"head": "sparse"},
    "token vectors alone": {"head": "multi"},
    "a teacher of all": {
        "head": "unified",
        "loss": "distillation",
        "n_negatives": 3,
        "self_distillation": True,
        "self_distillation_start": 0,
    },
}
WHOLE_GRAPH = {"plain": 10**9, "GradCache": 0}


def first_step(model: Path, settings: dict[str, Any], whole_graph: int, folder: Path) -> dict[str, Tensor]:
    """Its loss and gradients."""
    trainer_module.whole_graph_tokens = lambda _: whole_graph
    encoder = unified_world.opened(model)
    size = N_QUERIES // joined_processes().n
    given = {"per_device_train_batch_size": size, "bf16": False, "temperature": 0.1, "mini_batch_tokens": 64}
    data = judged_by_a_teacher() if settings.get("loss") else crowded()
    trainer = open_trainer([data], encoder, None, FinetuneConfig(**{**given, **settings}), 42, folder)
    trainer.current_gradient_accumulation_steps = 1  # what train() sets
    loss = trainer.training_step(encoder.model, {"indices": torch.arange(N_QUERIES)})
    gradients = {name: p.grad for name, p in encoder.model.named_parameters() if p.grad is not None}
    return {"loss": loss, **{name: gradient.contiguous() for name, gradient in gradients.items()}}


def first_steps(model: Path, folder: Path) -> None:
    for name, settings in CASES.items():
        for way, whole_graph in WHOLE_GRAPH.items():
            file = folder / f"{name}-{way}-{joined_processes().rank}.safetensors"
            save_file(first_step(model, settings, whole_graph, folder / "run"), file)


@pytest.fixture
def restored() -> Any:
    before = trainer_module.whole_graph_tokens
    yield
    trainer_module.whole_graph_tokens = before


@pytest.mark.usefixtures("restored")
def test_grad_cache_and_several_processes_have_the_plain_gradient(tiny_bert_model: Path, tmp_path: Path) -> None:
    several.run(2, first_steps, tiny_bert_model, tmp_path)
    for name, settings in CASES.items():
        plain = first_step(tiny_bert_model, settings, WHOLE_GRAPH["plain"], tmp_path / "one")
        assert plain["loss"] > 0.1, name
        cached = first_step(tiny_bert_model, settings, WHOLE_GRAPH["GradCache"], tmp_path / "one")
        assert difference(cached, plain) < 1e-5, name
        for way in WHOLE_GRAPH:
            for rank in range(2):
                found = load_file(tmp_path / f"{name}-{way}-{rank}.safetensors")
                assert difference(found, plain) < 1e-5, (name, way, rank)


def plain_scores(encoder: UnifiedEncoder, queries: list[str], passages: list[str]) -> dict[str, Tensor]:
    """Text by text, one at a time: no padding, no mini-batches, the vocabulary as a dictionary."""

    def of(text: str, side: Any) -> tuple[Tensor, dict[int, Tensor], Tensor]:
        features = encoder.features(encoder.tokenize([text], side), side)
        (hidden,) = encoder.model[0](dict(features))["token_embeddings"]
        dense = F.normalize(hidden.mean(dim=0), dim=0)
        weights: dict[int, Tensor] = {}
        for token, state in list(zip(features["input_ids"][0].tolist(), hidden, strict=True))[1:-1]:
            weight = encoder.heads.sparse(state).relu()[0]
            weights[token] = torch.maximum(weights[token], weight) if token in weights else weight
        return dense, weights, F.normalize(encoder.heads.multi_vector(hidden[1:]), dim=-1)

    left, right = [of(text, "query") for text in queries], [of(text, "passage") for text in passages]
    nothing = torch.zeros(())
    sparse = [[sum((w * p[1][t] for t, w in q[1].items() if t in p[1]), nothing) for p in right] for q in left]
    return {
        "dense": torch.stack([q[0] for q in left]) @ torch.stack([p[0] for p in right]).T,
        "sparse": torch.stack([torch.stack(row) for row in sparse]),
        "multi_vector": torch.stack(
            [torch.stack([(q[2] @ p[2].T).max(dim=1).values.mean() for p in right]) for q in left]
        ),
    }


def test_scores_of_a_batch_are_those_of_its_texts_one_by_one(tiny_bert_model: Path, tmp_path: Path) -> None:
    encoder = unified_world.opened(tiny_bert_model)
    data = crowded()
    config = FinetuneConfig(head="unified", bf16=False, mini_batch_tokens=64)
    (task,) = open_trainer([data], encoder, None, config, 42, tmp_path).tasks
    batch = task.batch(range(12))
    embeddings = [task.embed(encoder.model, features) for features in task.mini_batches(batch)]
    assert len({rows.shape[1] for rows in embeddings}) > 3  # mini-batches of different lengths
    found = task.lanes.scores(embeddings, batch)
    rows = [task.examples[i] for i in range(12)]
    queries = [task.examples.queries[row.query].text for row in rows]
    passages = [data.passages[p].indexed_text for p in batch["columns"].tolist()]
    for lane, expected in plain_scores(encoder, queries, passages).items():
        torch.testing.assert_close(found[lane], expected, rtol=1e-5, atol=1e-5)
    assert found["sparse"].any()


def test_what_does_not_train_is_neither_computed_nor_packed(tiny_bert_model: Path, tmp_path: Path) -> None:
    encoder = unified_world.opened(tiny_bert_model)
    ran: list[str] = []
    for name in ("sparse", "multi_vector"):
        getattr(encoder.heads, name).register_forward_hook(lambda *_, name=name: ran.append(name))
    for head, width in (("sparse", 1), ("multi", 16), ("unified", 17)):
        (task,) = open_trainer([crowded()], encoder, None, FinetuneConfig(head=head), 42, tmp_path).tasks
        features = task.mini_batches(task.batch(range(4)))[0]
        n_dense = 16 if head == "unified" else 0
        assert task.embed(encoder.model, features).shape[1] == n_dense + width * features["input_ids"].shape[1]
    assert ran == ["sparse", "multi_vector", "sparse", "multi_vector"]


def test_a_frozen_encoder_has_no_graph_and_only_heads_move(tiny_bert_model: Path, tmp_path: Path) -> None:
    encoder = unified_world.opened(tiny_bert_model)
    before = encoder.copy_weights()
    tuned = tiny_fit(encoder, tmp_path, freeze_encoder=True, save_total_limit=1, eval_steps=4)
    after = load_encoder(str(tuned.model), device="cpu").copy_weights()
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    heads = {name for name in after if ".heads." in name}
    assert "0.heads.multi_vector.weight" in moved  # no word of a query is in a passage: of `sparse` only decay moves
    assert moved <= heads
    assert tuned.report.trained_parameters == sum(p.numel() for p in encoder.heads.parameters())
    assert all(parameter.requires_grad for parameter in encoder.model.parameters())
    (checkpoint, *_) = (tmp_path / "checkpoints").glob("checkpoint-*/model.safetensors")
    assert load_file(checkpoint).keys() == heads


def tiny_fit(encoder: UnifiedEncoder, folder: Path, pool: Any = None, **settings: Any) -> Any:
    from test_resume import fit

    pool = pool or tiny_world.dev_pool().ranked_by(settings.get("head", "unified"))
    return fit(encoder, folder, pool, **{"head": "unified", "bf16": False, "max_steps": 8, **settings})


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2, "gradient_checkpointing": True}, {"freeze_encoder": True}])
def test_killed_while_training(settings: dict[str, Any], tiny_bert_model: Path, tmp_path: Path) -> None:
    """With dropout, self-distillation from the third step on; the parts of the loss are the same, too."""
    from test_resume import Killed, deadly, outcome

    given = {"self_distillation": True, "self_distillation_start": 2, "logging_steps": 1, **settings}
    whole = tiny_fit(unified_world.opened(tiny_bert_model, dropout=True), tmp_path / "whole", **given)
    killer = deadly(tiny_world.dev_pool(), 2).ranked_by("unified")
    with pytest.raises(Killed):
        tiny_fit(unified_world.opened(tiny_bert_model, dropout=True), tmp_path / "broken", killer, **given)
    again = tiny_fit(unified_world.opened(tiny_bert_model, dropout=True), tmp_path / "broken", **given)
    assert outcome(again) == outcome(whole)
    one, two = (load_encoder(str(tuned.model), device="cpu").copy_weights() for tuned in (whole, again))
    assert all(torch.equal(weight, two[name]) for name, weight in one.items())
    names = [set(point) - {"step", "loss"} for point in whole.report.loss_curve]
    plain = {"loss_dense", "loss_sparse", "loss_multi_vector", "loss_ensemble"}
    distilled = {"loss_distilled_dense", "loss_distilled_sparse", "loss_distilled_multi_vector"}
    assert names == [plain] * 2 + [plain | distilled] * 6
    for point in whole.report.loss_curve[:2]:
        own = point["loss_dense"] + 0.1 * point["loss_sparse"] + point["loss_multi_vector"] + point["loss_ensemble"]
        assert point["loss"] == pytest.approx(own / 4, rel=1e-4)


def test_every_lane_learns_and_the_ensemble_is_what_the_pool_measures(tiny_bert_model: Path, tmp_path: Path) -> None:
    encoder = unified_world.opened(tiny_bert_model)
    tuned = tiny_fit(encoder, tmp_path, max_steps=30, eval_steps=10, interpolation=False)
    after = load_encoder(str(tuned.model), device="cpu", bf16=False)
    for head in ("dense", "multi", "unified"):
        pool = tiny_world.dev_pool().ranked_by(head)
        assert pool.scores(after).mean() > pool.scores(encoder).mean() + 0.1, head
    measured = tiny_world.dev_pool().ranked_by("unified").scores(after).mean()
    assert max(point["nDCG@10"] for point in tuned.report.dev_curve) == pytest.approx(measured)
    assert "ranked by dense vectors, sparse weights and token vectors together" in tuned.report.dev_pool


def test_the_pool_ranks_by_the_plain_scores(tiny_bert_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against scores text by text, in blocks smaller than the pool."""
    from bessemer.training import lane_ranking

    monkeypatch.setattr(lane_ranking, "PASSAGES_AT_ONCE", 7)
    encoder = unified_world.opened(tiny_bert_model).with_settings(multi_vector_precision="float32")
    data = crowded()
    texts = [passage.indexed_text for passage in data.passages]
    queries = [query.text for query in data.judged.queries]
    encoder.model.eval()
    with torch.no_grad():
        lanes = plain_scores(encoder, queries, texts)
    expected = lanes["dense"] + 0.3 * lanes["sparse"] + lanes["multi_vector"]
    for head, of in (("unified", expected), ("sparse", lanes["sparse"]), ("multi", lanes["multi_vector"])):
        scores, rows = lane_ranking.best_of_lanes(encoder, head, queries, texts, np.arange(len(texts)))
        np.testing.assert_allclose(scores, of.topk(10).values.numpy(), atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(of.numpy(), rows, axis=1), scores, atol=1e-5)


def test_what_does_not_fit_is_refused(tiny_bert_model: Path, tmp_path: Path) -> None:
    plain = load_encoder(str(tiny_bert_model), device="cpu", bf16=False)
    with pytest.raises(ConfigError, match=r"--head unified: .* has no heads; `with_heads` gives it some"):
        open_trainer([crowded()], plain, None, FinetuneConfig(head="unified"), 42, tmp_path)
    with pytest.raises(ConfigError, match=r"--head unified: .*pairs train dense vectors"):
        open_trainer([sentence_pairs()], plain, None, FinetuneConfig(head="unified"), 42, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze_encoder": True}, "leaves nothing to train"),
        ({"head": "unified", "matryoshka_dims": "64"}, "matryoshka_dims: for head dense only"),
        ({"head": "sparse", "symmetric": True}, "symmetric: for head dense only"),
        ({"head": "multi", "loss": "mochi"}, "loss mochi: head multi trains by info_nce or distillation"),
        ({"self_distillation": True}, "self_distillation: the lanes of head unified teach each other"),
        ({"head": "sparse", "self_distillation": True}, "self_distillation: the lanes of head unified"),
        ({"head": "unified", "self_distillation_start": 3}, "nothing starts without self_distillation"),
        ({"head": "unified", "batch_margin": 0.0}, "name a guide"),
        (
            {"head": "multi", "batch_relative_margin": 0.9},
            "batch_relative_margin: go by a guide's scores with head multi",
        ),
        ({"head": "unified", "freeze_encoder": True, "lora_rank": 4}, "leave lora_rank"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FinetuneConfig(**settings)


def test_a_teacher_s_target_is_set_for_the_ensemble(tiny_bert_model: Path, tmp_path: Path) -> None:
    """Query by query: the cross-entropy of the ensemble over its scored candidates, and a fifth of the unified loss."""
    encoder = unified_world.opened(tiny_bert_model)
    settings = {"loss": "distillation", "n_negatives": 3, "teacher_temperature": 0.7, "temperature": 0.1}
    config = FinetuneConfig(head="unified", bf16=False, **settings)
    (task,) = open_trainer([judged_by_a_teacher()], encoder, None, config, 42, tmp_path).tasks
    batch = task.batch(range(16))
    embeddings = [task.embed(encoder.model, features) for features in task.mini_batches(batch)]
    scores = task.lanes.scores(embeddings, batch)
    together = scores["dense"] + 0.3 * scores["sparse"] + scores["multi_vector"]
    of_teacher = torch.zeros(())
    for row, columns, teacher in zip(together, batch["candidates"], batch["teacher"], strict=True):
        scored = torch.isfinite(teacher)
        if scored.any():
            weights = (teacher[scored] / 0.7).softmax(dim=0)
            logits = row[columns[scored]] / 0.1
            of_teacher = of_teacher + (weights * (logits.logsumexp(dim=0) - logits)).sum() / len(together)
    own, parts = task.lanes.loss(scores, batch)
    loss = task.loss(embeddings, batch)
    assert loss.item() == pytest.approx((of_teacher + 0.2 * own).item(), rel=1e-5)
    assert task.parts["loss_teacher"].item() == pytest.approx(of_teacher.item(), rel=1e-5)
    assert parts.keys() | {"loss_teacher"} == task.parts.keys()
