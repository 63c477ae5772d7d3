"""The guide's mask: by hand, against GISTEmbedLoss of sentence-transformers, and after a refresh of the negatives."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoded
from bessemer.errors import ConfigError
from bessemer.training.batches import Row, TrainingData, TrainingSet
from bessemer.training.finetune import finetune
from bessemer.training.guide import Guide
from bessemer.training.losses import ScoreMargin
from bessemer.training.open_trainer import open_trainer
from bessemer.training.tasks import RetrievalTask
from bessemer.types import HardNegatives, Judged, Passage, Query
from fixed_vectors import FixedVectors

PASSAGES = tuple(Passage(f"p{i}", "d", f"text {i}") for i in range(5))
JUDGED = Judged((Query("a", "query a"), Query("b", "query b")), {"a": {"p0": 1}, "b": {"p1": 1}})


def mined(query_id: str, *passage_ids: str) -> HardNegatives:
    return HardNegatives(query_id, passage_ids, (0.5,) * len(passage_ids), {}, "given")


class Counting(FixedVectors):
    """Query a scores passages 0.8 0.6 0.9 0.7 0.5, query b 0.1 0.5 0.4 0.5 0.6; remembers what it encoded."""

    def __init__(self) -> None:
        a, b = (0.8, 0.6, 0.9, 0.7, 0.5), (0.1, 0.5, 0.4, 0.5, 0.6)
        passages = {f"text {i}": pair for i, pair in enumerate(zip(a, b, strict=True))}
        super().__init__({"query a": (1.0, 0.0), "query b": (0.0, 1.0), **passages})
        self.seen: list[list[str]] = []

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        self.seen.append(list(texts))
        return super().encode_queries(texts)


def training_set() -> TrainingSet:
    return TrainingSet(JUDGED, PASSAGES, [mined("a", "p2"), mined("b", "p3")], 1, 42)


@pytest.mark.parametrize(
    ("margin", "told"),
    [
        # Columns p0 p2 p1 p3. Query a: above 0.8 is p2. Query b: above 0.5 is none; equal is not above.
        (0.0, [[False, True, False, False], [False, False, False, False]]),
        # Above 0.65: p0 itself, p2, p3. Above 0.35: p2, p1 itself, p3. A loss keeps the positive whatever is told.
        (0.15, [[True, True, False, True], [False, True, True, True]]),
        (-0.15, [[False] * 4, [False] * 4]),  # above 0.95, 0.65
    ],
)
def test_what_the_guide_puts_above_its_own_score_of_the_positive(margin: float, told: list[list[bool]]) -> None:
    rows = [Row(0, 0, (2,)), Row(1, 1, (3,))]
    assert Guide(Counting(), training_set(), ScoreMargin(margin))(rows, [0, 2, 1, 3]).tolist() == told


def test_a_share_of_the_guide_s_score_of_the_positive() -> None:
    """Query a: above 0.85 * 0.8 = 0.68 are p0 itself, p2 and p3. Query b: above 0.425 p1 itself and p3."""
    guide = Guide(Counting(), training_set(), ScoreMargin.of(FinetuneConfig(guide="guide", batch_relative_margin=0.85)))
    told = guide([Row(0, 0, (2,)), Row(1, 1, (3,))], [0, 2, 1, 3])
    assert told.tolist() == [[True, True, False, True], [False, False, True, True]]


def test_each_text_is_encoded_once_and_what_a_refresh_brings_when_it_comes() -> None:
    encoder, examples = Counting(), training_set()
    guide = Guide(encoder, examples, ScoreMargin())
    for _ in range(3):
        guide([Row(0, 0, (2,))], [0, 2])
    assert encoder.seen == [["query a", "query b"], ["text 0", "text 1", "text 2", "text 3"]]
    examples.take([mined("a", "p4"), mined("b", "p2")])
    assert guide([Row(1, 1, (2,)), Row(0, 0, (4,))], [1, 2, 0, 4]).tolist() == [
        [False, False, False, True],  # 0.6 beats 0.5
        [False, True, False, False],
    ]
    guide([Row(0, 0, (4,))], [0, 4])
    assert encoder.seen[2:] == [["text 4"]]


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_loss_and_gradient_are_those_of_gist_embed(margin: float, minilm: DenseEncoder, tmp_path: Path) -> None:
    columns = [
        ["how is steel made", "what is a blast furnace", "price of iron in 1870", "making of steel"],
        ["Air is blown through molten iron.", "A tall oven.", "It cost a few dollars.", "The Bessemer process."],
        ["Steel is made of iron.", "A furnace for iron ore.", "Iron in 1870: the price was low.", "Steel is dear."],
    ]
    guide = DenseEncoder(copy.deepcopy(minilm.model), "guide", bf16=False)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in guide.model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    passages = [Passage(f"p{i}", "d", text) for i, text in enumerate([*columns[1], *columns[2]])]
    queries = tuple(Query(f"q{i}", text) for i, text in enumerate(columns[0]))
    judged = Judged(queries, {f"q{i}": {f"p{i}": 1} for i in range(4)})
    negatives = [mined(f"q{i}", f"p{i + 4}") for i in range(4)]
    config = FinetuneConfig(guide="guide", batch_margin=margin, bf16=False)
    data = TrainingData(judged, passages, negatives, guide=guide)
    trainer = open_trainer([data], minilm, None, config, 42, tmp_path)
    (task,) = trainer.tasks
    model = minilm.model.eval()
    batch = task.batch(range(4))
    positives = torch.nn.functional.one_hot(batch["positives"], 8).bool()
    assert 3 < int((batch["excluded"] & ~positives).sum()) < 28  # it tells some, not all
    ours = trainer.compute_loss(model, {"task": task, **batch})
    reference = GISTEmbedLoss(
        model, guide.model.eval(), temperature=0.05, margin=margin, contrast_anchors=False, contrast_positives=False
    )
    expected = reference([model.preprocess(texts) for texts in columns], torch.arange(4))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    parameters = list(model.parameters())

    def gradient(value: torch.Tensor) -> torch.Tensor:
        found = torch.autograd.grad(value, parameters, allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    theirs = gradient(expected)
    assert theirs.norm() > 0.1
    assert (gradient(ours) - theirs).norm() <= 1e-5 * theirs.norm()


def test_the_guide_takes_the_place_of_the_model_s_own_scores(tiny_static: DenseEncoder) -> None:
    """Passages that beat the positive in the model's own eyes stay negatives where the guide says so."""
    encoder = FixedVectors({"query a": (1.0,), "query b": (1.0,), **{f"text {i}": (1.0 - i,) for i in range(5)}})
    config = FinetuneConfig(guide="fixed", batch_margin=0.0)
    data = TrainingData(JUDGED, PASSAGES, [mined("b", "p3")], guide=encoder)
    task = RetrievalTask(data, tiny_static, config, 42)
    batch = task.batch([0, 1])  # columns p0 p1 p3
    assert batch["excluded"].tolist() == [[True, False, False], [True, True, False]]
    shared = RetrievalTask(data, tiny_static, FinetuneConfig(guide="fixed", batch_relative_margin=1.5), 42)
    assert shared.batch([0, 1])["excluded"].tolist() == batch["excluded"].tolist()  # b's positive is 0: above it
    queries = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    passages = torch.tensor([[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]])
    found = task.loss([queries, passages], {**batch, "queries": ordered(2), "passages": ordered(3)})
    # At temperature 0.05 query a: 12 against 16 and 20; query b: 16 against 20, p0 is out.
    a = torch.tensor([[12.0, 16.0, 20.0]])
    b = torch.tensor([[16.0, 20.0]])
    first = torch.tensor([0])
    expected = (torch.nn.functional.cross_entropy(a, first) + torch.nn.functional.cross_entropy(b, first)) / 2
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def ordered(n: int) -> dict[str, object]:
    return {"features": [None], "order": torch.arange(n)}


@pytest.mark.parametrize(("name", "given"), [("guide", False), (None, True)])
def test_a_name_without_a_model_and_a_model_without_a_name_are_refused(
    name: str | None, given: bool, tiny_static: DenseEncoder, tmp_path: Path
) -> None:
    data = TrainingData(JUDGED, PASSAGES, guide=tiny_static if given else None)
    with pytest.raises(ConfigError, match=r"finetune.guide: names the model that TrainingData.guide is"):
        finetune([data], tiny_static, None, FinetuneConfig(guide=name), 42, tmp_path)
