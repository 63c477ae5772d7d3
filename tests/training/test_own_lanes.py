"""SPLADE and ColBERT: the losses of sentence-transformers, exact in every way of training, saved as its own."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import several
import tiny_world
import torch
import unified_world
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder as TheirMultiVector
from sentence_transformers import SparseEncoder as TheirSparse
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.sparse_encoder.losses import SparseMultipleNegativesRankingLoss, SpladeLoss
from test_processes import crowded, difference, judged_by_a_teacher, sentence_pairs
from test_resume import Killed, deadly, fit, outcome
from torch import Tensor, nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.foreign import ForeignEncoder
from bessemer.encoders.load import load_encoder
from bessemer.encoders.multi_vector import load_multi_vector
from bessemer.encoders.sparse import load_sparse
from bessemer.errors import ArtifactError, ConfigError
from bessemer.training import trainer as trainer_module
from bessemer.training.batches import TrainingData
from bessemer.training.cpu import fast_training
from bessemer.training.distributed import joined_processes
from bessemer.training.hardware import CPU_WHOLE_GRAPH, whole_graph_tokens
from bessemer.training.open_trainer import open_trainer
from bessemer.types import HardNegatives, Judged, Passage, Query

N_QUERIES = 32
FLOPS = {"flops_query": 0.05, "flops_passage": 0.03}
CASES: dict[str, dict[str, Any]] = {
    "splade": {"head": "sparse", "temperature": 1.0, **FLOPS},
    "splade of a teacher": {"head": "sparse", "loss": "distillation", "n_negatives": 3, **FLOPS},
    "colbert": {"head": "multi", "temperature": 0.1},
    "unified": {"head": "sparse", **FLOPS},
}
WHOLE_GRAPH = {"plain": 10**9, "GradCache": 0}


@pytest.fixture(scope="module")
def folders(tiny_splade_model: Path, tiny_colbert_model: Path, tiny_bert_model: Path) -> dict[str, Path]:
    return {"splade": tiny_splade_model, "colbert": tiny_colbert_model, "unified": tiny_bert_model}


def opened(folders: dict[str, Path], name: str, *, dropout: bool = False) -> Any:
    kind = name.split()[0]
    if kind == "unified":
        return unified_world.opened(folders[kind])
    encoder: Any = {"splade": load_sparse, "colbert": load_multi_vector}[kind](str(folders[kind]), device="cpu")
    for module in encoder.model.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    encoder.bf16 = False
    return encoder


def first_step(folders: dict[str, Path], name: str, whole_graph: int, folder: Path) -> dict[str, Tensor]:
    """Its loss and gradients."""
    trainer_module.whole_graph_tokens = lambda _: whole_graph
    encoder = opened(folders, name)
    size = N_QUERIES // joined_processes().n
    given = {"per_device_train_batch_size": size, "bf16": False, "mini_batch_tokens": 64, **CASES[name]}
    data = judged_by_a_teacher() if "teacher" in name else crowded()
    trainer = open_trainer([data], encoder, None, FinetuneConfig(**given), 42, folder)
    trainer.current_gradient_accumulation_steps = 1  # what train() sets
    loss = trainer.training_step(encoder.model, {"indices": torch.arange(N_QUERIES)})
    gradients = {n: p.grad for n, p in encoder.model.named_parameters() if p.grad is not None}
    return {"loss": loss, **{n: gradient.contiguous() for n, gradient in gradients.items()}}


def first_steps(folders: dict[str, Path], folder: Path) -> None:
    for name in CASES:
        for way, whole_graph in WHOLE_GRAPH.items():
            found = first_step(folders, name, whole_graph, folder / "run")
            save_file(found, folder / f"{name}-{way}-{joined_processes().rank}.safetensors")


@pytest.fixture
def restored() -> Any:
    before = trainer_module.whole_graph_tokens
    yield
    trainer_module.whole_graph_tokens = before


@pytest.mark.usefixtures("restored")
def test_grad_cache_and_several_processes_have_the_plain_gradient(folders: dict[str, Path], tmp_path: Path) -> None:
    several.run(2, first_steps, folders, tmp_path)
    for name in CASES:
        plain = first_step(folders, name, WHOLE_GRAPH["plain"], tmp_path / "one")
        assert len(plain) > 10, name
        assert difference(first_step(folders, name, WHOLE_GRAPH["GradCache"], tmp_path / "one"), plain) < 1e-5, name
        for way in WHOLE_GRAPH:
            for rank in range(2):
                found = load_file(tmp_path / f"{name}-{way}-{rank}.safetensors")
                assert difference(found, plain) < 1e-5, (name, way, rank)


def apart() -> TrainingData:
    """8 queries of 5 words, each with a positive and a negative that no other has."""
    texts = [" ".join(f"w{(13 * i + 7 * j) % 199}" for j in range(2 + i % 6)) for i in range(16)]
    passages = tuple(Passage(f"p{i}", f"d{i}", text) for i, text in enumerate(texts))
    queries = tuple(Query(f"q{i}", " ".join(f"w{(11 * i + 3 * j) % 199}" for j in range(5))) for i in range(8))
    negatives = tuple(HardNegatives(f"q{i}", (f"p{8 + i}",), (0.5,), {}, "given") for i in range(8))
    return TrainingData(Judged(queries, {f"q{i}": {f"p{i}": 1} for i in range(8)}), passages, negatives)


def of_one_batch(encoder: Any, config: FinetuneConfig, folder: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """Our loss of all of `apart`, with its parts."""
    (task,) = open_trainer([apart()], encoder, None, config, 42, folder).tasks
    batch = task.batch(range(8))
    encoder.model.train()
    loss = task.loss([task.embed(encoder.model, features) for features in task.mini_batches(batch)], batch)
    return loss, dict(task.parts)


def columns(model: Any) -> list[dict[str, Any]]:
    data = apart()
    texts = [[q.text for q in data.judged.queries], *([p.text for p in data.passages[i : i + 8]] for i in (0, 8))]
    tasks = ("query", "document", "document")
    return [{**model.preprocess(some, task=task), "task": task} for some, task in zip(texts, tasks, strict=True)]


def test_splade_loss_is_that_of_sentence_transformers(folders: dict[str, Path], tmp_path: Path) -> None:
    encoder = opened(folders, "splade")
    config = FinetuneConfig(head="sparse", temperature=0.5, bf16=False, mini_batch_tokens=64, **FLOPS)
    loss, parts = of_one_batch(encoder, config, tmp_path)
    theirs = SpladeLoss(
        encoder.model,
        SparseMultipleNegativesRankingLoss(encoder.model, scale=2.0),
        document_regularizer_weight=0.03,
        query_regularizer_weight=0.05,
    )(columns(encoder.model))
    assert parts["loss_sparse"] == pytest.approx(theirs["base_loss"].item(), rel=1e-5)
    assert parts["loss_flops_query"] == pytest.approx(theirs["query_regularizer_loss"].item(), rel=1e-5)
    assert parts["loss_flops_passage"] == pytest.approx(theirs["document_regularizer_loss"].item(), rel=1e-5)
    assert loss.item() == pytest.approx(sum(theirs.values()).item(), rel=1e-5)


def test_colbert_loss_is_that_of_sentence_transformers(folders: dict[str, Path], tmp_path: Path) -> None:
    """Theirs is of the sum over a query's tokens, here 7 of all."""
    encoder = opened(folders, "colbert")
    config = FinetuneConfig(head="multi", temperature=0.1, bf16=False, mini_batch_tokens=64)
    loss, _ = of_one_batch(encoder, config, tmp_path)
    theirs = MultiVectorMultipleNegativesRankingLoss(encoder.model, scale=1 / (0.1 * 7))(columns(encoder.model))
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_flops_of_a_unified_models_sparse_lane(folders: dict[str, Path], tmp_path: Path) -> None:
    """By the rows that it encodes to."""
    encoder, data = opened(folders, "unified"), apart()
    config = FinetuneConfig(head="sparse", bf16=False, mini_batch_tokens=64, **FLOPS)
    _, parts = of_one_batch(encoder, config, tmp_path)
    queries = encoder.encode_queries([q.text for q in data.judged.queries], ("sparse",)).sparse.toarray()
    passages = encoder.encode_passages([p.text for p in data.passages], ("sparse",)).sparse.toarray()
    assert parts["loss_flops_query"] == pytest.approx(0.05 * (queries.mean(axis=0) ** 2).sum(), rel=1e-4)
    assert parts["loss_flops_passage"] == pytest.approx(0.03 * (passages.mean(axis=0) ** 2).sum(), rel=1e-4)


def test_flops_rise_as_the_square_of_the_step_over_the_first_third(folders: dict[str, Path], tmp_path: Path) -> None:
    given = {"head": "sparse", "temperature": 1.0, **FLOPS, "max_steps": 9, "logging_steps": 1, "bf16": False}
    pool = tiny_world.dev_pool().ranked_by("sparse")
    tuned = fit(opened(folders, "splade"), tmp_path, pool, **{**given, "learning_rate": 1e-12, "n_negatives": 0})
    found = [point["loss_flops_passage"] for point in tuned.report.loss_curve]
    full = found[4]
    assert found[0] == 0
    assert found[1] == pytest.approx(full / 9, rel=0.2)  # batches differ a little
    assert found[2] == pytest.approx(full * 4 / 9, rel=0.2)
    assert found[3] == pytest.approx(full, rel=0.2)
    for point in tuned.report.loss_curve:
        parts = point["loss_sparse"] + point["loss_flops_query"] + point["loss_flops_passage"]
        assert point["loss"] == pytest.approx(parts, rel=1e-4)


def test_the_cheaper_ways_of_a_cpu_have_the_gradient_of_tied_tables(folders: dict[str, Path], tmp_path: Path) -> None:
    """The token table's own part of it is sparse there, that of the output over the vocabulary is not."""
    encoder = opened(folders, "splade")
    config = FinetuneConfig(head="sparse", temperature=1.0, bf16=False, mini_batch_tokens=64, **FLOPS)
    found = []
    for fast in (False, True):
        encoder.model.zero_grad()
        with fast_training(encoder, bf16=False) if fast else nullcontext():
            of_one_batch(encoder, config, tmp_path)[0].backward()
        found.append({name: p.grad.clone() for name, p in encoder.model.named_parameters() if p.grad is not None})
    assert difference(found[1], found[0]) < 1e-5
    assert encoder.model[0].model.get_input_embeddings().weight.grad.abs().sum() > 0


@pytest.mark.parametrize("max_steps", [1, 2])
def test_flops_of_the_shortest_trainings(max_steps: int, folders: dict[str, Path], tmp_path: Path) -> None:
    pool = tiny_world.dev_pool().ranked_by("sparse")
    given = {"head": "sparse", **FLOPS, "max_steps": max_steps, "eval_steps": 1, "bf16": False}
    assert fit(opened(folders, "splade"), tmp_path, pool, **given).report.steps == max_steps


def serve(name: str, folder: Path, texts: list[str]) -> Any:
    theirs: Any = {"splade": TheirSparse, "colbert": TheirMultiVector}[name](str(folder), device="cpu")
    return theirs.similarity(theirs.encode_query(texts), theirs.encode_document(texts)).cpu().numpy()


@pytest.mark.parametrize("name", ["splade", "colbert"])
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_it_learns_and_the_folder_is_sentence_transformers_own(
    name: str, lora_rank: int, folders: dict[str, Path], tmp_path: Path
) -> None:
    if lora_rank:
        pytest.importorskip("peft")
    encoder: ForeignEncoder = opened(folders, name)
    before = encoder.copy_weights()
    head = "sparse" if name == "splade" else "multi"
    pool = tiny_world.dev_pool().ranked_by(head)
    given = {"head": head, "temperature": 1.0, "flops_query": 1e-4, "flops_passage": 1e-4}
    if name == "colbert":
        given = {"head": head, "temperature": 0.1}
    rate = 0.005 if name == "splade" and not lora_rank else 0.02
    given |= {"max_steps": 60, "eval_steps": 20, "interpolation": False, "bf16": False, "learning_rate": rate}
    tuned = fit(encoder, tmp_path, pool, **{**given, "lora_rank": lora_rank})
    after: Any = opened({name: tuned.model}, name)
    measured = pool.scores(after).mean()
    assert measured > pool.scores(encoder).mean() + 0.05
    assert max(point["nDCG@10"] for point in tuned.report.dev_curve) == pytest.approx(measured)
    assert all(torch.equal(weight, before[n]) for n, weight in encoder.copy_weights().items())
    texts = ["w1 w121", "w50 w100", "w3"]
    found, theirs = after.encode_queries(texts), serve(name, tuned.model, texts)
    if found.sparse is not None:
        ours = (found.sparse @ after.encode_passages(texts).sparse.T).toarray()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
        active = tuned.report.dev_curve[0]
        assert 0 < active["active_dimensions_query"] <= 204
        assert 0 < active["active_dimensions_passage"] <= 204
    else:
        assert "active_dimensions_query" not in tuned.report.dev_curve[0]
        assert np.diff(after.encode_passages(texts).multi_vector.offsets).tolist() == [4, 3, 3]  # w100 is out


@pytest.mark.parametrize("name", ["splade", "colbert"])
def test_the_pool_measures_what_is_saved_after_training_in_bf16(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    head: Any = CASES[name]["head"]
    pool = tiny_world.dev_pool().ranked_by(head)
    given = {**CASES[name], "max_steps": 4, "eval_steps": 4, "interpolation": False, "bf16": True}
    tuned = fit(opened(folders, name), tmp_path, pool, **given)
    assert tuned.report.dev_curve[-1]["nDCG@10"] == pytest.approx(pool.scores(opened({name: tuned.model}, name)).mean())
    assert np.isfinite(tuned.report.final_loss)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("splade", {}), ("splade", {"lora_rank": 2, "gradient_checkpointing": True}), ("colbert", {})],
)
def test_killed_while_training(name: str, settings: dict[str, Any], folders: dict[str, Path], tmp_path: Path) -> None:
    """With dropout, tied weights among the checkpoint's."""
    if settings:
        pytest.importorskip("peft")
    head: Any = CASES[name]["head"]
    given = {**CASES[name], "bf16": False, "logging_steps": 1, **settings}
    pool = tiny_world.dev_pool().ranked_by(head)
    whole = fit(opened(folders, name, dropout=True), tmp_path / "whole", pool, **given)
    killer = deadly(tiny_world.dev_pool(), 2).ranked_by(head)
    with pytest.raises(Killed):
        fit(opened(folders, name, dropout=True), tmp_path / "broken", killer, **given)
    again = fit(opened(folders, name, dropout=True), tmp_path / "broken", pool, **given)
    assert outcome(again) == outcome(whole)
    one, two = (opened({name: tuned.model}, name).copy_weights() for tuned in (whole, again))
    assert all(torch.equal(weight, two[n]) for n, weight in one.items())


def test_what_does_not_fit(folders: dict[str, Path], tmp_path: Path) -> None:
    for name, settings, message in (
        ("splade", {"head": "multi"}, "give --head sparse"),
        ("colbert", {"head": "unified"}, "give --head multi"),
        ("splade", {"head": "sparse", "freeze_encoder": True}, "no head beside the encoder"),
        ("colbert", {"head": "multi", "refresh_steps": 2}, "dense vectors"),
        ("colbert", {}, "no dense vectors to train"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_trainer([crowded()], opened(folders, name), None, FinetuneConfig(**settings), 42, tmp_path)
    with pytest.raises(ConfigError, match="no dense vectors to train"):
        open_trainer([sentence_pairs()], opened(folders, "splade"), None, FinetuneConfig(head="sparse"), 42, tmp_path)
    with pytest.raises(ConfigError, match="share the lengths"):
        opened(folders, "splade").for_task("qa", max_length=9)
    plain = load_encoder(str(folders["unified"]), device="cpu", bf16=False)
    with pytest.raises(ArtifactError, match="needs sparse"):
        tiny_world.dev_pool().ranked_by("sparse").scores(plain)


def test_memory_is_planned_for_the_vocabulary(folders: dict[str, Path]) -> None:
    """204 words are few beside the 128 KiB of a token of MiniLM's graph."""
    assert whole_graph_tokens(opened(folders, "colbert")) == CPU_WHOLE_GRAPH
    assert whole_graph_tokens(opened(folders, "splade")) == int(CPU_WHOLE_GRAPH / (1 + 12 * 204 / 131_072))
