"""Whole training runs, small ones: what they leave on disk, what they report, when they stop."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_world
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import nn

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import BessemerError, ConfigError, DataError
from bessemer.formats.jsonl import read_bge_jsonl
from bessemer.training.arguments import training_arguments
from bessemer.training.batches import TrainingData
from bessemer.training.dev_pool import EvaluationPool
from bessemer.training.finetune import Selection, Tuned, finetune
from bessemer.training.open_trainer import open_trainer
from bessemer.training.sampling import Share
from bessemer.training.tasks import Task
from bessemer.training.trainer import ContrastiveTrainer
from bessemer.types import Judged, Passage, Query

CAPITALS = {
    "France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Greece": "Athens", "Poland": "Warsaw", "Norway": "Oslo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen", "Austria": "Vienna", "Hungary": "Budapest",
    "Portugal": "Lisbon", "Ireland": "Dublin", "Japan": "Tokyo", "China": "Beijing", "Egypt": "Cairo",
    "Peru": "Lima", "Chile": "Santiago", "Cuba": "Havana", "Canada": "Ottawa", "Iran": "Tehran",
    "Iraq": "Baghdad", "Nepal": "Kathmandu", "Kenya": "Nairobi",
}  # fmt: skip


def tiny_run(encoder: DenseEncoder, folder: Path, selection: Selection | None = None, **settings: object) -> Tuned:
    config = FinetuneConfig(
        **{"per_device_train_batch_size": 8, "eval_steps": 4, "max_steps": 12, "early_stopping_patience": 9, **settings}
    )
    return finetune(
        [TrainingData(tiny_world.train(), tiny_world.passages(), tiny_world.negatives())],
        encoder,
        selection,
        config,
        42,
        folder,
    )


def selected() -> Selection:
    return Selection(tiny_world.dev_pool(), None, 0.01)


def weights(encoder: DenseEncoder) -> dict[str, torch.Tensor]:
    return encoder.copy_weights()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_minilm_learns_and_the_folder_opens_in_sentence_transformers(minilm: DenseEncoder, tmp_path: Path) -> None:
    passages = [
        Passage(f"p{i}", "d", f"{city} is where the parliament sits.") for i, city in enumerate(CAPITALS.values())
    ]
    queries = tuple(Query(f"q{i}", f"seat of the government of {country}") for i, country in enumerate(CAPITALS))
    train = Judged(queries, {f"q{i}": {f"p{i}": 1} for i in range(len(queries))})
    own = weights(minilm)
    config = FinetuneConfig(
        per_device_train_batch_size=24, max_steps=4, warmup_steps=0, learning_rate=1e-4, max_length=32
    )
    tuned = finetune([TrainingData(train, passages)], minilm, None, config, 42, tmp_path)
    losses = [point["loss"] for point in tuned.report.loss_curve]
    assert len(losses) == 4
    assert losses[-1] < 0.8 * losses[0]
    assert same(weights(minilm), own)

    plain = SentenceTransformer(str(tuned.model), device="cpu")
    ours = load_encoder(str(tuned.model), device="cpu", bf16=False)
    texts = [query.text for query in queries]
    assert np.abs(plain.encode_query(texts) - ours.encode(texts, "query")).max() < 1e-5
    texts = [passage.indexed_text for passage in passages]
    assert np.abs(plain.encode_document(texts) - ours.encode(texts, "passage")).max() < 1e-5
    assert np.abs(ours.encode(texts, "passage") - minilm.encode(texts, "passage")).max() > 1e-3


def test_a_run_with_dev_selection(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    own = weights(tiny_static)
    before = tiny_world.dev_pool().scores(tiny_static).mean()
    report = tiny_run(tiny_static, tmp_path, selected(), learning_rate=0.1).report
    assert same(weights(tiny_static), own)
    assert report.interpolation is not None
    assert (report.steps, report.epochs, report.examples) == (12, 4.0, 80)  # 3 batches of 7, 7, 6 an epoch
    assert report.examples_per_second == pytest.approx(80 / report.seconds)
    assert [point["step"] for point in report.dev_curve] == [0, 4, 8, 12]
    assert report.dev_curve[0]["nDCG@10"] == pytest.approx(before)
    curve = [point["nDCG@10"] for point in report.dev_curve[1:]]
    assert report.best_step == 4 * (1 + curve.index(max(curve)))
    assert max(curve) > before + 0.2
    assert [point["step"] for point in report.loss_curve] == list(range(1, 13))
    assert report.final_loss == report.loss_curve[-1]["loss"] < report.loss_curve[0]["loss"]
    assert (report.stopped_early, report.learning_rate, report.token_waste) == (False, 0.1, 0.0)
    assert report.dev_pool == "20 dev queries over 20 passages"
    assert report.notes == ()
    tuned = load_encoder(str(tmp_path / "model"), device="cpu")
    chosen = {c.alpha: c.dev for c in report.interpolation.candidates}[report.interpolation.alpha]
    assert tiny_world.dev_pool().scores(tuned).mean() == pytest.approx(chosen)


def test_the_best_checkpoint_is_kept_and_not_the_last(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    tuned = tiny_run(tiny_static, tmp_path, selected(), learning_rate=3.0, interpolation=False)
    curve = {point["step"]: point["nDCG@10"] for point in tuned.report.dev_curve}
    assert curve[tuned.report.best_step] == max(curve.values())
    loaded = load_encoder(str(tuned.model), device="cpu")
    assert tiny_world.dev_pool().scores(loaded).mean() == pytest.approx(max(curve.values()))
    assert tuned.report.interpolation is None


def test_training_stops_early(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    one_passage = dataclasses.replace(tiny_world.dev_pool(), passages=tiny_world.passages()[:1])  # nothing to gain
    report = tiny_run(
        tiny_static, tmp_path, Selection(one_passage, None, 0.01), eval_steps=2, early_stopping_patience=2
    ).report
    assert (report.steps, report.best_step, report.stopped_early) == (6, 2, True)


@pytest.mark.parametrize("selection", [None, Selection(EvaluationPool((), {}, (), "nothing"), None, 0.01)])
def test_without_dev_queries_the_last_weights_are_saved(
    tiny_static: DenseEncoder, tmp_path: Path, selection: Selection | None
) -> None:
    tuned = tiny_run(tiny_static, tmp_path, selection, max_steps=5)
    (saved,) = load_file(tuned.model / "model.safetensors").values()
    (last,) = load_file(tmp_path / "checkpoints" / "checkpoint-5" / "model.safetensors").values()
    assert torch.equal(saved, last)
    assert tuned.report.dev_pool == "no dev queries or pairs: the last weights were kept"
    assert (tuned.report.dev_curve, tuned.report.interpolation, tuned.report.best_step) == ((), None, 5)


def test_same_seed_same_weights(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    first, again = tiny_run(tiny_static, tmp_path / "a"), tiny_run(tiny_static, tmp_path / "b")
    assert (first.model / "model.safetensors").read_bytes() == (again.model / "model.safetensors").read_bytes()


def test_fewer_examples_than_a_batch_are_trained_on_and_told(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    report = tiny_run(tiny_static, tmp_path, per_device_train_batch_size=64, max_steps=2).report
    assert (report.steps, report.examples) == (2, 40)
    assert report.notes == ("batch size 20: there are no more examples",)


def test_texts_longer_than_the_model_reads_are_counted(tiny_bert_model: Path, tmp_path: Path) -> None:
    encoder = load_encoder(str(tiny_bert_model), device="cpu", bf16=False, max_length=5)  # [CLS], three words, [SEP]
    passages = [Passage("p0", "d", "w1 w2 w3"), Passage("p1", "d", "w1 w2 w3 w4"), Passage("unused", "d", "w1 " * 9)]
    judged = Judged((Query("a", "w1"), Query("b", "w5 w6 w7 w8")), {"a": {"p0": 1}, "b": {"p1": 1}})
    config = FinetuneConfig(max_steps=1, warmup_steps=0)
    report = finetune([TrainingData(judged, passages)], encoder, None, config, 42, tmp_path).report
    assert "2 texts are longer than the model reads; the rest of them was cut" in report.notes  # b and p1


def test_no_relevant_passage_is_bad_data(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    train = Judged((Query("q", "w1"),), {"q": {"p0": 0, "gone": 1}})
    with pytest.raises(DataError, match="no train query has a relevant passage"):
        finetune([TrainingData(train, tiny_world.passages())], tiny_static, None, FinetuneConfig(), 42, tmp_path)


def test_nothing_is_pickled_by_us(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    tiny_run(tiny_static, tmp_path, selected())
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert "training_args.bin" not in names
    in_model = {path.suffix for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert in_model <= {".json", ".safetensors", ".md", ".txt"}


@pytest.mark.parametrize("with_dev", [True, False])
def test_a_loss_that_is_no_number_stops_before_anything_is_saved(
    tiny_bert: DenseEncoder, tmp_path: Path, with_dev: bool
) -> None:
    own = weights(tiny_bert)
    # 200 steps are logged every 4: without a look at step 2 its checkpoint would hold what no resume can mend.
    with pytest.raises(BessemerError, match=r"is nan at step 2; lower --learning-rate or run without --bf16") as told:
        tiny_run(
            tiny_bert, tmp_path, selected() if with_dev else None,
            learning_rate=1e30, warmup_steps=0, max_steps=200, eval_steps=2,
        )  # fmt: skip
    assert not list((tmp_path / "checkpoints").glob("checkpoint-*"))
    assert same(weights(tiny_bert), own)
    assert str(told.value).endswith(f"The batch is in {tmp_path / 'failed_batch.jsonl'}.")
    batch = read_bge_jsonl(tmp_path / "failed_batch.jsonl")
    known = {query.query_id: query.text for query in tiny_world.train().queries}
    found = [query for judged in batch.collection.splits.values() for query in judged.queries]
    assert len(found) == 7  # 20 examples in batches of 8 at most: 7, 7, 6
    assert all(known[query.query_id] == query.text for query in found)


def test_cosine_models_without_a_module_for_it_are_trained_on_cosines(tiny_static_model: Path, tmp_path: Path) -> None:
    first = SentenceTransformer(str(tiny_static_model), device="cpu")[0]
    assert isinstance(first, StaticEmbedding)
    encoder = DenseEncoder(SentenceTransformer(modules=[first], device="cpu"), "bare")
    assert encoder.similarity == "cosine"
    data = TrainingData(tiny_world.train(), tiny_world.passages())
    trainer = open_trainer([data], encoder, None, FinetuneConfig(temperature=1.0), 42, tmp_path)
    (task,) = trainer.tasks
    loss = trainer.compute_loss(encoder.model, {"task": task, **task.batch(range(4))}).item()
    queries = encoder.encode([query.text for query in tiny_world.train().queries[:4]], "query")
    passages = encoder.encode([passage.text for passage in tiny_world.passages()[:4]], "passage")
    assert np.linalg.norm(queries, axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    logits = queries @ passages.T
    expected = np.mean([math.log(np.exp(logits[i]).sum()) - logits[i, i] for i in range(4)])
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "n_examples", "steps", "every"),
    [
        ({"per_device_train_batch_size": 10, "num_train_epochs": 2.0, "eval_steps": 0.2}, 95, 20, 4),
        ({"per_device_train_batch_size": 10, "num_train_epochs": 0.5, "eval_steps": 0.25}, 95, 5, 2),
        ({"per_device_train_batch_size": 32, "num_train_epochs": 1.0, "eval_steps": 0.5}, 2204, 69, 35),  # 34, 68, 69
        ({"per_device_train_batch_size": 64, "num_train_epochs": 3.0, "eval_steps": 7}, 20, 3, 7),
        ({"max_steps": 40, "eval_steps": 0.5}, 1000, 40, 20),
    ],
)
def test_shares_become_counts(
    tiny_static: DenseEncoder, tmp_path: Path, settings: dict[str, float], n_examples: int, steps: int, every: int
) -> None:
    config = FinetuneConfig(**settings)
    per_epoch = Share(n_examples, config.per_device_train_batch_size).n_batches
    found = training_arguments(config, per_epoch, tmp_path, tiny_static, seed=1, measure="nDCG@10")
    assert (found.max_steps, found.eval_steps, found.save_steps) == (steps, every, every)
    assert (found.learning_rate, found.warmup_steps) == (1e-2, 0.1)  # a static model; the library reads the share


def test_transformers_take_the_smaller_learning_rate(fresh_encoder: Callable[[], DenseEncoder], tmp_path: Path) -> None:
    encoder = fresh_encoder()
    found = training_arguments(FinetuneConfig(), 100, tmp_path, encoder, seed=1, measure=None)
    assert found.learning_rate == (1e-2 if encoder.is_static else 5e-5)


def test_it_trains_on_the_gpu_that_was_asked_for(
    tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_current: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", made_current.append)
    tiny_bert.device = "cuda:1"
    found = training_arguments(FinetuneConfig(bf16=False), 10, tmp_path, tiny_bert, seed=1, measure=None)
    assert found.device == torch.device("cuda:1")
    assert made_current == ["cuda:1"]


def test_a_disk_without_room_for_checkpoints_is_found_before_step_1(
    tiny_bert: DenseEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_bytes = sum(tensor.numel() * 4 for tensor in tiny_bert.model.state_dict().values())
    needed = 3 * 3 * n_bytes + n_bytes  # two checkpoints kept and one more being written; then the model itself

    def disk(free: int) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))

    disk(needed - 1)
    with pytest.raises(ConfigError, match=r"GB free, and checkpoints need .* GB; free space or choose"):
        tiny_run(tiny_bert, tmp_path, None, max_steps=1)
    assert not (tmp_path / "checkpoints").exists()
    disk(needed + 1000)
    tiny_run(tiny_bert, tmp_path, None, max_steps=1)


@pytest.mark.parametrize("is_cpu", [True, False])
def test_out_of_memory_halves_the_mini_batch_and_says_so(
    is_cpu: bool,
    tiny_bert: DenseEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    plain = ContrastiveTrainer._embed
    with pytest.raises(RuntimeError) as told:
        torch.empty(1 << 60)  # what a CPU says: the text is torch's own
    error = str(told.value)

    def small_memory(
        self: ContrastiveTrainer, task: Task, model: nn.Module, features: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        if features["input_ids"].numel() > limit:
            raise RuntimeError(error) if is_cpu else torch.OutOfMemoryError
        return plain(self, task, model, features)

    limit = 20
    monkeypatch.setattr(ContrastiveTrainer, "_embed", small_memory)
    monkeypatch.setattr("bessemer.training.mini_batches.LEAST_TOKENS", 8)
    with caplog.at_level("WARNING", logger="bessemer"):
        tuned = tiny_run(tiny_bert, tmp_path / "enough", None, mini_batch_tokens=64)
    ours = [
        record for record in caplog.records if record.name.startswith("bessemer")
    ]  # transformers warns of the clock
    assert [record.getMessage() for record in ours] == [
        f"out of memory: mini-batches of {n} tokens from here on" for n in (32, 16)
    ]
    assert tuned.report.steps == 12
    assert math.isfinite(tuned.report.final_loss)
    limit = 1
    with pytest.raises(BessemerError, match=r"out of memory even with mini-batches of 8 tokens; give a smaller"):
        tiny_run(tiny_bert, tmp_path / "never", None, mini_batch_tokens=64)
