"""Examples, draws, batch layout, masks, and that mini-batches change neither embeddings nor gradients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bessemer.config import FinetuneConfig
from bessemer.encoders.dense import DenseEncoder
from bessemer.training.batches import Collator, Row, TrainingData, TrainingSet
from bessemer.training.losses import info_nce
from bessemer.training.open_trainer import open_trainer
from bessemer.types import HardNegatives, Judged, Passage, Query

LONG = "The furnace is lined with brick, and air is blown through the molten iron from below until the flame drops. "
PASSAGES = (
    Passage("p0", "d", "Air is blown through molten iron."),
    Passage("p1", "d", LONG * 3),
    Passage("p2", "d", "Rails were made of steel."),
    Passage("p3", "d", "Air is blown through molten iron."),  # the text of p0
    Passage("p4", "d", "Coal", headings=("Fuel", "Price")),
    Passage("p5", "d", LONG),
)
TRAIN = Judged(
    (
        Query("a", "how is steel made"),
        Query("b", "what are rails made of"),
        Query("c", "How is  steel made"),  # the words of a
        Query("d", "price of fuel"),
        Query("e", "nothing answers this"),
    ),
    {"a": {"p0": 1, "p2": 2, "p4": 0}, "b": {"p2": 1}, "c": {"p1": 1}, "d": {"p4": 1, "gone": 1}, "e": {"p1": 0}},
)


def mined(query_id: str, *passage_ids: str) -> HardNegatives:
    return HardNegatives(query_id, passage_ids, (0.5,) * len(passage_ids), {}, "given")


def training_set(negatives: Sequence[HardNegatives] = (), n_negatives: int = 1, seed: int = 42) -> TrainingSet:
    return TrainingSet(TRAIN, PASSAGES, negatives, n_negatives, seed)


def test_one_example_per_query_and_relevant_passage() -> None:
    examples = training_set([mined("a", "p5"), mined("b", "p1", "gone")])
    assert [examples[i] for i in range(len(examples))] == [
        Row(0, 0, (5,)),
        Row(0, 2, (5,)),
        Row(1, 2, (1,)),
        Row(2, 1, ()),
        Row(3, 4, ()),
    ]


def test_notes_count_what_is_not_as_asked() -> None:
    examples = training_set([mined("a", "p5", "p1"), mined("b", "p1")], n_negatives=2)
    assert examples.notes(batch_size=6) == (
        "1 train queries without a relevant passage were not trained on",
        "3 of 5 examples have fewer than 2 hard negatives",
        "batch size 5: there are no more examples",
    )
    lacking = training_set([mined("a", "gone", "p5", "lost"), mined("b", "p1", "gone"), mined("dev", "gone")])
    told = "3 hard negatives are of passages that the corpus lacks: they were left out"
    assert told in lacking.notes(batch_size=5)
    lacking.take([mined("a", "p5")])  # a refresh: those are of the corpus, and what was given still lacked them
    assert told in lacking.notes(batch_size=5)
    assert training_set(n_negatives=0).notes(batch_size=5) == (
        "1 train queries without a relevant passage were not trained on",
    )


def many(n_candidates: int, n_negatives: int, seed: int) -> TrainingSet:
    passages = [Passage(f"p{i}", "d", f"text {i}") for i in range(n_candidates + 1)]
    judged = Judged((Query("q", "query"),), {"q": {"p0": 1}})
    return TrainingSet(judged, passages, [mined("q", *(f"p{i + 1}" for i in range(n_candidates)))], n_negatives, seed)


def draws(examples: TrainingSet, n_epochs: int) -> list[tuple[int, ...]]:
    found = []
    for epoch in range(n_epochs):
        examples.turn = epoch
        found.append(examples[0].negatives)
    return found


def test_negatives_are_taken_nearest_first_and_go_on_with_the_next_example_and_epoch() -> None:
    judged = Judged((Query("q", "query"), Query("r", "another")), {"q": {"p0": 1, "p5": 1}, "r": {"p1": 1}})
    passages = [Passage(f"p{i}", "d", f"text {i}") for i in range(6)]
    mined = [
        HardNegatives(q, ids, (0.5,) * len(ids), {}, "top_k")
        for q, ids in (("q", ("p3", "p1", "p4")), ("r", ("p2", "p4", "p0")))
    ]
    taken = []
    examples = TrainingSet(judged, passages, mined, 1, seed=1)
    for examples.turn in range(3):
        taken.append([examples[i].negatives for i in range(3)])
    assert taken == [[(3,), (1,), (2,)], [(4,), (3,), (4,)], [(1,), (4,), (0,)]]
    two = TrainingSet(judged, passages, mined, 2, seed=1)
    assert [two[i].negatives for i in range(3)] == [(3, 1), (4, 3), (2, 4)]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 9), st.integers(0, 6), st.integers(0, 5), st.integers(0, 1000))
def test_negatives_are_distinct_candidates(n_candidates: int, n_negatives: int, epoch: int, seed: int) -> None:
    examples = many(n_candidates, n_negatives, seed)
    examples.turn = epoch
    taken = examples[0].negatives
    assert len(taken) == len(set(taken)) == min(n_candidates, n_negatives)
    assert set(taken) <= set(range(1, n_candidates + 1))


def test_every_candidate_has_its_turn() -> None:
    assert [p for taken in draws(many(5, 1, seed=0), 5) for p in taken] == [1, 2, 3, 4, 5]


def test_draws_by_probability_are_anew_in_each_epoch_and_skip_what_the_corpus_lacks() -> None:
    passages = [Passage(f"p{i}", "d", f"text {i}") for i in range(4)]
    judged = Judged((Query("q", "query"),), {"q": {"p0": 1}})
    row = HardNegatives("q", ("p1", "gone", "p2", "p3"), (0.5,) * 4, {}, "simans", (0.3, 0.4, 0.3, 0.0))
    examples = TrainingSet(judged, passages, [row], 1, seed=1)
    drawn = draws(examples, 2000)
    assert set(drawn) == {(1,), (2,)}  # p3 has no chance, p1 and p2 the same
    assert abs(drawn.count((1,)) / 2000 - 0.5) < 5 * (0.25 / 2000) ** 0.5
    assert draws(examples, 2000) == drawn
    assert set(draws(TrainingSet(judged, passages, [row], 2, seed=1), 50)) <= {(1, 2), (2, 1)}


def test_layout_each_distinct_passage_once_and_the_positives_rows(minilm: DenseEncoder) -> None:
    examples = training_set([mined("a", "p5")])
    batch = Collator(minilm, examples, 4096)([Row(0, 0, (5, 1)), Row(0, 2, (5,)), Row(1, 2, (0,)), Row(3, 4, ())])
    # Passages in order of appearance: 0 5 1 2 4.
    assert batch["positives"].tolist() == [0, 3, 3, 4]
    assert batch["excluded"].shape == (4, 5)
    texts = [LONG * 3, LONG, "Air is blown through molten iron.", "Fuel > Price\nCoal", "Rails were made of steel."]
    (features,) = batch["passages"]["features"]
    expected = minilm.features(minilm.tokenize(texts, "passage"), "passage")
    rows = {tuple(ids.tolist()) for ids in features["input_ids"]}
    assert len(features["input_ids"]) == 5
    assert rows == {tuple(ids.tolist()) for ids in expected["input_ids"]}


def test_false_negatives_by_id_by_text_by_qrels_and_by_a_query_of_the_same_words(minilm: DenseEncoder) -> None:
    examples = training_set([mined("b", "p3"), mined("d", "p5")])
    rows = [examples[i] for i in range(5)]  # (a, p0) (a, p2) (b, p2, -p3) (c, p1) (d, p4, -p5)
    batch = Collator(minilm, examples, 4096)(rows)
    assert batch["positives"].tolist() == [0, 1, 1, 3, 4]
    columns = ["p0", "p2", "p3", "p1", "p4", "p5"]
    excluded = [{columns[j] for j in row.nonzero().flatten().tolist()} for row in batch["excluded"]]
    a_and_c = {"p0", "p2", "p3", "p1"}  # relevant to a; p3 has the text of p0; p1 is relevant to c, the same words
    assert excluded == [a_and_c, a_and_c, {"p2"}, a_and_c, {"p4"}]  # p4 is judged 0 for a: it stays a negative


def test_passages_of_the_positive_s_document_are_out_when_that_is_asked_for(minilm: DenseEncoder) -> None:
    passages = [Passage(f"p{i}", document, f"w{i}") for i, document in enumerate("aabb")]
    judged = Judged((Query("q", "one"), Query("r", "two")), {"q": {"p0": 1}, "r": {"p2": 1}})
    examples = TrainingSet(judged, passages, [mined("q", "p1"), mined("r", "p3")], 1, 42)
    rows = [examples[0], examples[1]]  # passages p0 p1 p2 p3
    plain = Collator(minilm, examples, 64)(rows)["excluded"]
    assert plain.tolist() == [[True, False, False, False], [False, False, True, False]]
    excluded = Collator(minilm, examples, 64, exclude_same_document=True)(rows)["excluded"]
    assert excluded.tolist() == [[True, True, False, False], [False, False, True, True]]


def test_a_query_s_own_negatives_alone_where_the_loss_is_of_triplets(minilm: DenseEncoder) -> None:
    examples = training_set([mined("b", "p3", "p5"), mined("d", "p5")], n_negatives=2)
    rows = [examples[i] for i in range(5)]
    batch = Collator(minilm, examples, 4096, own_negatives_only=True)(rows)
    columns = ["p0", "p2", "p3", "p5", "p1", "p4"]
    left = [{columns[j] for j in (~row).nonzero().flatten().tolist()} for row in batch["excluded"]]
    assert left == [set(), set(), {"p3", "p5"}, set(), {"p5"}]


def padded_sizes(side: dict[str, list[dict[str, Tensor]]]) -> list[int]:
    return [features["input_ids"].numel() for features in side["features"]]


@pytest.mark.parametrize("budget", [64, 100, 200])
def test_the_token_budget_is_kept_and_padding_counted(minilm: DenseEncoder, budget: int) -> None:
    examples = training_set([mined(q, "p5", "p3") for q in "abcd"], n_negatives=2)
    collator = Collator(minilm, examples, budget)
    batch = collator([examples[i] for i in range(5)])
    for side in ("queries", "passages"):
        for features in batch[side]["features"]:
            assert features["input_ids"].numel() <= budget or len(features["input_ids"]) == 1
    masks = [features["attention_mask"] for side in ("queries", "passages") for features in batch[side]["features"]]
    assert collator.mini_batches.n_tokens == sum(int(mask.sum()) for mask in masks)
    assert collator.mini_batches.n_padded_tokens == sum(
        padded_sizes(batch["queries"]) + padded_sizes(batch["passages"])
    )
    assert len(batch["passages"]["features"]) > 1


def test_mini_batches_are_as_few_as_the_budget_allows(minilm: DenseEncoder) -> None:
    examples = training_set()
    chosen = (0, 1, 3, 4)
    longest = max(len(ids) for ids in minilm.tokenize([TRAIN.queries[i].text for i in chosen], "query"))
    collator = Collator(minilm, examples, 2 * longest)
    batch = collator([Row(query, 2, ()) for query in chosen])
    assert [len(f["input_ids"]) for f in batch["queries"]["features"]] == [2, 2]


def test_a_text_is_encoded_once_in_a_batch(minilm: DenseEncoder) -> None:
    """Query a stands in two rows, and c has the same tokens."""
    batch = Collator(minilm, training_set(), 4096)([Row(0, 0, ()), Row(1, 2, ()), Row(0, 2, ()), Row(2, 1, ())])
    (features,) = batch["queries"]["features"]
    assert len(features["input_ids"]) == 2
    first, second, third, fourth = batch["queries"]["order"].tolist()
    assert first == third == fourth != second
    (passages,) = batch["passages"]["features"]
    assert len(passages["input_ids"]) == 3
    assert batch["positives"].tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize("model", ["minilm", "tiny_static"])
def test_order_restores_the_batch(model: str, request: pytest.FixtureRequest) -> None:
    encoder: DenseEncoder = request.getfixturevalue(model)
    encoder.model.eval()
    words = ["w1 w2 w3 w4", "w9", "w5 w6", "w7 w8 w9 w10 w11 w12", "w3", ""]
    passages = tuple(Passage(f"p{i}", "d", p.text if model == "minilm" else words[i]) for i, p in enumerate(PASSAGES))
    examples = TrainingSet(TRAIN, passages, [mined(q, "p5", "p3") for q in "abcd"], 2, 42)
    batch = Collator(encoder, examples, 64)([examples[i] for i in range(5)])
    with torch.no_grad():
        found = torch.cat([encoder.embed(features) for features in batch["passages"]["features"]])
        found = found[batch["passages"]["order"]]
    in_order = [passages[i].indexed_text for i in (0, 5, 3, 2, 1, 4)]
    alone = torch.cat([torch.from_numpy(encoder.encode([text], "passage")) for text in in_order])
    assert (found - alone).abs().max() < 1e-5


def test_the_gradient_of_mini_batches_is_that_of_one_padded_batch(minilm: DenseEncoder, tmp_path: Path) -> None:
    data = TrainingData(TRAIN, PASSAGES, [mined(q, "p5", "p3") for q in "abcd"])
    config = FinetuneConfig(n_negatives=2, mini_batch_tokens=64)
    trainer = open_trainer([data], minilm, None, config, 42, tmp_path)
    (task,) = trainer.tasks
    model = minilm.model.eval()
    parameters = [p for p in model.parameters() if p.requires_grad]

    def gradient(loss: Tensor) -> Tensor:
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    batch = task.batch(range(5))
    loss = trainer.compute_loss(model, {"task": task, **batch})
    in_order = [PASSAGES[i].indexed_text for i in (0, 5, 3, 2, 1, 4)]
    sides = [
        minilm.embed(minilm.features(minilm.tokenize(texts, side), side))
        for texts, side in (([TRAIN.queries[i].text for i in (0, 0, 1, 2, 3)], "query"), (in_order, "passage"))
    ]
    whole = info_nce(sides[0], sides[1], batch["positives"], batch["excluded"], temperature=0.05)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
    ours, reference = gradient(loss), gradient(whole)
    assert reference.norm() > 0.1
    assert (ours - reference).norm() / reference.norm() < 1e-5


def test_only_passages_that_can_occur_are_tokenised() -> None:
    class Counting:
        def __init__(self) -> None:
            self.texts: list[str] = []

        def tokenize_counted(self, texts: Sequence[str], side: str) -> tuple[list[list[int]], int]:
            self.texts += texts if side == "passage" else []
            return [[0]] * len(texts), 0

        def features(self, token_ids: Sequence[Sequence[int]], side: str) -> dict[str, Tensor]:
            return {"input_ids": torch.zeros(len(token_ids), 1)}

    tokenizer = Counting()
    passages = [Passage(f"p{i}", "d", f"text {i}") for i in range(100)]
    judged = Judged((Query("q", "query"),), {"q": {"p7": 1}})
    Collator(tokenizer, TrainingSet(judged, passages, [mined("q", "p3", "p9")], 1, 42), 64)
    assert tokenizer.texts == ["text 3", "text 7", "text 9"]
