"""Several processes train as one would with the whole batch; when one fails, none hangs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import several
import tiny_world
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from test_resume import assert_same, deadly, nearest, saved
from torch import Tensor, nn
from torch.nn import functional

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import ConfigError
from bessemer.formats.pairs import LabelledPair, ScoredPair
from bessemer.processes import Processes
from bessemer.training import lora, shares
from bessemer.training import trainer as trainer_module
from bessemer.training.batches import Miner, TrainingData
from bessemer.training.checkpoints import last_whole_checkpoint
from bessemer.training.dev_pool import EvaluationPool
from bessemer.training.distributed import joined_processes
from bessemer.training.finetune import Selection, finetune
from bessemer.training.losses import FOR_TEACHERS, LOSSES
from bessemer.training.losses.of_pairs import FOR_LABELS, FOR_SCORES
from bessemer.training.open_trainer import open_trainer
from bessemer.training.pair_task import PairData
from bessemer.training.shares import n_texts, own_share
from bessemer.training.tasks import Task
from bessemer.training.trainer import ContrastiveTrainer
from bessemer.types import HardNegatives, Judged, Passage, Query

N_QUERIES = 32


def crowded() -> TrainingData:
    """Where processes can go wrong: queries that share passages and negatives, passages of one text, queries of one
    text, lengths from 1 to 12 words."""
    texts = [" ".join(f"w{(7 * i + j) % 190}" for j in range(1 + i % 12)) for i in range(40)]
    texts[20:24] = texts[0:4]
    passages = [Passage(f"p{i}", f"d{i // 2}", text) for i, text in enumerate(texts)]
    words = [" ".join(f"w{(11 * i + j) % 190}" for j in range(1 + i % 5)) for i in range(N_QUERIES)]
    words[16:19] = words[0:3]
    qrels = {f"q{i}": {f"p{i % 29}": 1} for i in range(N_QUERIES)}
    negatives = [
        HardNegatives(f"q{i}", (f"p{(i + 1) % 40}", f"p{(3 * i + 5) % 40}"), (0.5, 0.4), {}, "given")
        for i in range(N_QUERIES)
    ]
    judged = Judged(tuple(Query(f"q{i}", text) for i, text in enumerate(words)), qrels)
    return TrainingData(judged, passages, negatives)


def judged_by_a_teacher() -> TrainingData:
    """The same, scored: up to five candidates each, ties, queries without a positive and queries without scores."""
    data = crowded()
    scores = {
        f"q{i}": {f"p{(i + 3 * j) % 40}": float((i * j) % 5) for j in range(2 + i % 4)} | {f"p{i % 29}": 2.5}
        for i in range(N_QUERIES)
        if i % 7 != 3
    }
    qrels = {query: grades for query, grades in data.judged.qrels.items() if query not in scores or int(query[1:]) % 5}
    return replace(data, judged=Judged(data.judged.queries, qrels), teacher_scores=scores)


def sentence_pairs() -> PairData:
    """Pairs that share texts, with scores."""
    texts = [" ".join(f"w{(7 * i + j) % 190}" for j in range(1 + i % 9)) for i in range(20)]
    chosen = [(texts[i % 20], texts[(3 * i + 1) % 20]) for i in range(N_QUERIES)]
    return PairData(tuple(ScoredPair(left, right, i % 6 / 5) for i, (left, right) in enumerate(chosen)))


def labelled_pairs() -> PairData:
    """The same, labelled 0 or 1."""
    pairs = enumerate(sentence_pairs().pairs)
    return PairData(tuple(LabelledPair(pair.left, pair.right, i % 3 == 0) for i, pair in pairs))


def one_question() -> TrainingData:
    """The same words in three rows, each with a passage of its own."""
    data = crowded()
    queries = tuple(Query(f"q{i}", "w5 w6") for i in range(3))
    return TrainingData(Judged(queries, {f"q{i}": {f"p{i}": 1} for i in range(3)}), data.passages)


def opened(folder: Path, *, dropout: bool = False) -> DenseEncoder:
    encoder = load_encoder(str(folder), device="cpu", bf16=False)
    for module in encoder.model.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    return encoder


Prepare = Callable[[ContrastiveTrainer], None]


@dataclass(frozen=True)
class Case:
    """A first step. ``whole_graph``: tokens up to which no GradCache is needed, by process (the last for the rest)."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    whole_graph: Sequence[int] = (10**9,)
    n_examples: int = N_QUERIES
    data: Callable[[], TrainingData | PairData] = crowded


LIVE = {"frozen_passages": True, "n_negatives": 3}
CASES = {
    "plain": Case(),
    "plain, a batch that cannot be halved": Case(n_examples=N_QUERIES - 1),
    "plain, mini-batches of one text": Case({"mini_batch_tokens": 64}),
    "GradCache": Case({"mini_batch_tokens": 64}, [0]),
    "GradCache in the first process only": Case({"mini_batch_tokens": 64}, [0, 10**9]),
    "same document": Case({"exclude_same_document": True, "n_negatives": 2}),
    "symmetric, same tower": Case({"symmetric": True, "same_tower_negatives": True}),
    "symmetric, same tower, GradCache": Case({"symmetric": True, "same_tower_negatives": True}, [0]),
    "hardness": Case({"loss": "hardness", "class_prior": 0.02}),
    "hardness, GradCache": Case({"loss": "hardness", "class_prior": 0.02}, [0]),
    "mochi": Case({"loss": "mochi"}),
    "mochi, GradCache": Case({"loss": "mochi"}, [0]),
    "triplet": Case({"loss": "triplet"}),
    "triplet, GradCache": Case({"loss": "triplet"}, [0]),
    "margin-MSE, Matryoshka": Case({"loss": "margin_mse", "matryoshka_dims": "8"}, data=judged_by_a_teacher),
    "queries against frozen passages": Case(LIVE),
    "Matryoshka, margin": Case({"matryoshka_dims": "8", "batch_margin": -0.2}),
    "fewer texts than processes": Case(LIVE, n_examples=3, data=one_question),
    "fewer texts than processes, GradCache": Case(LIVE, [0], n_examples=3, data=one_question),
}
WAYS = {"plain": (10**9,), "GradCache": (0,)}
for way, tokens in WAYS.items():
    for loss in FOR_TEACHERS:
        CASES[f"{loss}, {way}"] = Case({"loss": loss, "n_negatives": 3}, tokens, data=judged_by_a_teacher)
    for loss in FOR_LABELS:
        data = sentence_pairs if loss in FOR_SCORES else labelled_pairs
        CASES[f"pairs: {loss}, {way}"] = Case({"loss": loss, "loss_margin": 0.9}, tokens, data=data)


def first_step(model: Path, case: Case, folder: Path, prepare: Prepare | None = None) -> dict[str, Tensor]:
    """Its loss and gradients."""
    rank = min(joined_processes().rank, len(case.whole_graph) - 1)
    trainer_module.whole_graph_tokens = lambda _: case.whole_graph[rank]
    encoder = opened(model)
    size = N_QUERIES // joined_processes().n
    config = FinetuneConfig(**{"per_device_train_batch_size": size, "bf16": False, "temperature": 0.1, **case.settings})
    trainer = open_trainer([case.data()], encoder, None, config, 42, folder)
    trainer.current_gradient_accumulation_steps = 1  # what train() sets
    if prepare:
        prepare(trainer)
    loss = trainer.training_step(encoder.model, {"indices": torch.arange(case.n_examples)})
    assert trainer._was_halved == bool(prepare)
    gradients = {name: p.grad for name, p in encoder.model.named_parameters() if p.grad is not None}
    return {"loss": loss, **{name: gradient.contiguous() for name, gradient in gradients.items()}}


def first_steps(model: Path, folder: Path) -> None:
    for i, case in enumerate(CASES.values()):
        save_file(first_step(model, case, folder / "run"), folder / f"{i}-{joined_processes().rank}.safetensors")


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Relative, over all tensors together."""
    assert found.keys() == expected.keys()
    parts = [(found[name] - expected[name], expected[name]) for name in expected]
    square = [sum(float(tensor.double().square().sum()) for tensor in tensors) for tensors in zip(*parts, strict=True)]
    return float((square[0] / square[1]) ** 0.5)


@pytest.fixture
def restored() -> Any:
    """What a test sets in this process, put back."""
    before = trainer_module.whole_graph_tokens, lora.DROPOUT
    yield
    trainer_module.whole_graph_tokens, lora.DROPOUT = before


def test_the_cases_are_all_losses_plain_and_by_grad_cache() -> None:
    found = {(case.settings.get("loss", "info_nce"), case.whole_graph[0] == 0) for case in CASES.values()}
    assert found == {(loss, cached) for loss in (*LOSSES, *FOR_TEACHERS, *FOR_LABELS) for cached in (False, True)}


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(("kind", "n"), [("bert", 2), pytest.param("bert", 3, marks=pytest.mark.slow), ("static", 2)])
def test_the_gradient_is_that_of_one_process_with_the_whole_batch(
    kind: str, n: int, tiny_bert_model: Path, tiny_static_model: Path, tmp_path: Path
) -> None:
    model = tiny_bert_model if kind == "bert" else tiny_static_model
    several.run(n, first_steps, model, tmp_path)
    for i, (name, case) in enumerate(CASES.items()):
        expected = first_step(model, case, tmp_path / "one")
        assert expected["loss"] > 0.1, name
        for rank in range(n):
            found = load_file(tmp_path / f"{i}-{rank}.safetensors")
            assert difference(found, expected) < 1e-5, (name, rank)
            first = load_file(tmp_path / f"{i}-0.safetensors")
            assert all(torch.equal(found[key], value) for key, value in first.items()), (name, rank)


def train(model: Path, folder: Path, miner: Miner | None = None, **settings: Any) -> None:
    """On the tiny world, 8 examples in each whole batch; no dropout unless asked for."""
    dropout = settings.pop("dropout", False)
    dev = settings.pop("dev", None) or tiny_world.dev_pool()
    lora.DROPOUT = 0.0
    given = {"per_device_train_batch_size": 8 // joined_processes().n, "max_steps": 6, "eval_steps": 2}
    given |= {"n_negatives": 2, "learning_rate": 1e-3, "warmup_steps": 0, "early_stopping_patience": 9, "bf16": False}
    data = TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives(), miner)
    config = FinetuneConfig(**{**given, **settings})
    finetune([data], opened(model, dropout=dropout), Selection(dev, None, 1.0), config, 42, folder)


def nearest_by_the_first(encoder: DenseEncoder) -> Sequence[HardNegatives]:
    assert joined_processes().is_first
    return nearest(encoder)


@dataclass(frozen=True)
class OfTheFirst(EvaluationPool):
    """A pool that only the first process may search."""

    def scores(self, encoder: Encoder) -> NDArray[np.float64]:
        assert joined_processes().is_first
        return super().scores(encoder)


def of_the_first(pool: EvaluationPool) -> OfTheFirst:
    return OfTheFirst(pool.queries, pool.qrels, pool.passages, pool.statement)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    "settings",
    [
        {"max_steps": 3},
        {"max_steps": 3, "mini_batch_tokens": 64, "loss": "mochi"},
        {"max_steps": 3, "lora_rank": 2, "gradient_checkpointing": True},
        {"refresh_steps": 2, "miner": nearest_by_the_first, "dev": of_the_first(tiny_world.dev_pool())},
    ],
)
def test_steps_leave_the_weights_of_one_process(
    settings: dict[str, Any], tiny_bert_model: Path, tmp_path: Path
) -> None:
    several.run(2, partial(train, tiny_bert_model, tmp_path / "two", **settings))
    train(tiny_bert_model, tmp_path / "one", **settings)
    one, two, base = saved(tmp_path / "one"), saved(tmp_path / "two"), opened(tiny_bert_model).copy_weights()
    assert difference(two, one) < 1e-5
    assert difference(one, {name: base[f"0.model.{name}"] for name in one}) > 5e-4


def small_memory(rank: int, limit: int) -> Prepare:
    """The process ``rank`` has no room to encode more than so many tokens at once."""

    def prepare(trainer: ContrastiveTrainer) -> None:
        plain = trainer._embed

        def embed(task: Task, model: nn.Module, features: dict[str, Tensor]) -> Tensor:
            if joined_processes().rank == rank and features["input_ids"].numel() > limit:
                raise torch.OutOfMemoryError
            return plain(task, model, features)

        trainer._embed = embed

    return prepare


def fails_on_its_way_back(trainer: ContrastiveTrainer) -> None:
    """The second process runs out of memory once, after the embeddings were exchanged."""
    plain, calls = trainer.accelerator.backward, []

    def backward(loss: Tensor) -> None:
        calls.append(1)
        if joined_processes().rank == 1 and len(calls) == 2:
            plain(loss)  # a part of the gradient is there already
            raise torch.OutOfMemoryError
        plain(loss)

    trainer.accelerator.backward = backward


def no_room(n_sides: int) -> Prepare:
    """The second process has no memory, once, for its own rows at the longest's length (padded on 2 sides), or for as
    many rows as every process has (4), and fails between two exchanges."""

    def prepare(_: ContrastiveTrainer) -> None:
        plain, failed = functional.pad, []

        def pad(rows: Tensor, widths: Sequence[int]) -> Tensor:
            if joined_processes().rank == 1 and len(widths) == n_sides and not failed:
                failed.append(1)
                raise torch.OutOfMemoryError
            return plain(rows, widths)

        shares.F = SimpleNamespace(pad=pad)

    return prepare


def no_room_for_gradients(_: ContrastiveTrainer) -> None:
    """The second process, once, for all of them in one row."""
    plain, failed = shares.flat_gradients, []

    def flat_gradients(model: nn.Module, processes: Processes) -> Tensor | None:
        if processes.rank == 1 and not failed:
            failed.append(1)
            raise torch.OutOfMemoryError
        return plain(model, processes)

    shares.flat_gradients = flat_gradients


MEMORY_ENDS = (fails_on_its_way_back, no_room(2), no_room(4), no_room_for_gradients)
OUT_OF_MEMORY = (small_memory(1, 100), small_memory(0, 100), *MEMORY_ENDS)
GRADCACHE = Case({"mini_batch_tokens": 256}, [0])


def first_steps_out_of_memory(model: Path, folder: Path) -> None:
    for i, prepare in enumerate(OUT_OF_MEMORY):
        found = first_step(model, GRADCACHE, folder / "run", prepare)
        save_file(found, folder / f"{i}-{joined_processes().rank}.safetensors")


@pytest.mark.usefixtures("restored")
def test_out_of_memory_in_one_process_halves_the_mini_batches_of_all(tiny_bert_model: Path, tmp_path: Path) -> None:
    several.run(2, first_steps_out_of_memory, tiny_bert_model, tmp_path)
    expected = first_step(tiny_bert_model, GRADCACHE, tmp_path / "one")
    for i in range(len(OUT_OF_MEMORY)):
        for rank in range(2):
            assert difference(load_file(tmp_path / f"{i}-{rank}.safetensors"), expected) < 1e-5, (i, rank)


def test_a_killed_run_goes_on_to_the_same_weights(tiny_bert_model: Path, tmp_path: Path) -> None:
    """Dropout included: every process has its own random state in a checkpoint."""
    work = partial(train, tiny_bert_model, dropout=True)
    several.run(2, partial(work, tmp_path / "whole"))
    killing = partial(work, tmp_path / "broken", dev=deadly(tiny_world.dev_pool(), 2))
    assert all(code not in (0, None) for code in several.exit_codes(2, killing))
    last = last_whole_checkpoint(tmp_path / "broken" / "checkpoints")
    assert last is not None
    assert {path.name for path in Path(last).glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    several.run(2, partial(work, tmp_path / "broken"))
    assert_same(tmp_path / "whole", tmp_path / "broken")


def dropped_units(folder: Path, model: Path) -> None:
    trainer = open_trainer([crowded()], opened(model), None, FinetuneConfig(), 42, folder / "run")
    assert trainer.model.training
    save_file({"draw": torch.rand(8)}, folder / f"{joined_processes().rank}.safetensors")


def fails(rank: int, folder: Path, model: Path) -> None:
    encoder = opened(model)
    trainer = open_trainer([crowded()], encoder, None, FinetuneConfig(max_steps=4), 42, folder)
    if joined_processes().rank == rank:
        trainer.training_step = fail
    trainer.train()


def fail(*_: Any, **__: Any) -> Tensor:
    raise RuntimeError("a bug")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_fails_ends_the_others(rank: int, tiny_static_model: Path, tmp_path: Path) -> None:
    codes = several.exit_codes(2, fails, rank, tmp_path, tiny_static_model)
    assert all(code not in (0, None) for code in codes), codes  # None: it hung


def test_processes_drop_different_units(tiny_bert_model: Path, tmp_path: Path) -> None:
    several.run(2, dropped_units, tmp_path, tiny_bert_model)
    draws = [load_file(tmp_path / f"{rank}.safetensors")["draw"] for rank in range(2)]
    assert not torch.equal(*draws)


def too_many(folder: Path, model: Path) -> None:
    data = TrainingData(tiny_world.train(), tiny_world.passages())
    one_query = replace(data, judged=Judged(data.judged.queries[:1], data.judged.qrels))
    with pytest.raises(ConfigError, match="2 processes for a batch of 1 examples: start fewer"):
        open_trainer([one_query], opened(model), None, FinetuneConfig(), 42, folder)


def test_more_processes_than_examples_in_a_batch_are_refused(tiny_static_model: Path, tmp_path: Path) -> None:
    several.run(2, too_many, tmp_path, tiny_static_model)


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4), st.integers(1, 5),
    st.booleans(),
)  # fmt: skip
def test_shares_are_all_texts_once_and_differ_by_one_at_most(lengths: list[list[int]], n: int, is_static: bool) -> None:
    """Text k of the batch is the number k, as often as it is long."""
    mini_batches, texts = [], []
    for mini_batch in lengths:
        own = [[len(texts) + i] * length for i, length in enumerate(mini_batch)]
        texts += own
        if is_static:
            offsets = torch.tensor([0, *mini_batch[:-1]]).cumsum(0)
            mini_batches.append({"input_ids": torch.tensor([i for text in own for i in text]), "offsets": offsets})
        else:
            ids = torch.tensor([text + [-1] * (9 - len(text)) for text in own])
            mini_batches.append({"input_ids": ids, "attention_mask": ids >= 0, "prompt_length": torch.tensor([3])})
    found: list[list[list[int]]] = []
    for rank in range(n):
        share = own_share(mini_batches, Processes(rank, n, Nowhere()))
        assert all(n_texts(features) for features in share)
        found.append([text for features in share for text in rows_of(features)])
    for rank in range(n):
        assert found[rank] == texts[rank::n]


def rows_of(features: dict[str, Tensor]) -> list[list[int]]:
    if "offsets" in features:
        return [text.tolist() for text in features["input_ids"].tensor_split(features["offsets"][1:])]
    assert features["prompt_length"].tolist() == [3]
    return [ids[mask].tolist() for ids, mask in zip(features["input_ids"], features["attention_mask"], strict=True)]


class Nowhere:
    """A store that nobody asks."""

    def set(self, key: str, value: str) -> None: ...
    def wait(self, keys: list[str], timeout: timedelta) -> None: ...
    def get(self, key: str) -> bytes:
        return b""
