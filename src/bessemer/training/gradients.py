"""What the negatives of a strategy teach: the exact gradient of every example, measured on the model at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.draws import digest
from bessemer.encoders.dense import DenseEncoder
from bessemer.types import HardNegatives, Judged, Passage, Query


@dataclass(frozen=True)
class GradientStatistics:
    """Of the loss ``-log(e^{s+/t} / (e^{s+/t} + e^{s-/t}))`` over examples of one positive and one negative each.

    weight     mean softmax share of the negative: near 0, it teaches nothing; above 0.5, it outranks the positive.
    norm       mean length of the per-example gradient with respect to all weights.
    variance   mean squared distance of the per-example gradients from their mean.
    signal     length of that mean: what a step makes of them all.
    """

    strategy: str
    n_examples: int
    weight: float
    norm: float
    variance: float
    signal: float


@dataclass(frozen=True)
class Triplet:
    query: str
    positive: str
    negative: str


def measure_gradients(
    encoder: DenseEncoder, triplets: Mapping[str, Sequence[Triplet]], temperature: float
) -> list[GradientStatistics]:
    """One row per strategy, in their order. In float32 and without dropout; the encoder keeps its weights."""
    was_training = encoder.model.training
    encoder.model.eval()
    try:
        return [_statistics(encoder, name, rows, temperature) for name, rows in triplets.items()]
    finally:
        encoder.model.train(was_training)


def shared_triplets(
    judged: Judged,
    passages: Sequence[Passage],
    negatives: Mapping[str, Sequence[HardNegatives]],
    n_examples: int,
    seed: int,
) -> dict[str, list[Triplet]]:
    """Per strategy the same queries and positives, each with its first negative: at most ``n_examples`` of the queries
    that have one under every strategy, drawn by ``seed``."""
    first = {
        name: {row.query_id: row.passage_ids[0] for row in rows if row.passage_ids} for name, rows in negatives.items()
    }
    shared = set.intersection(*(set(found) for found in first.values())) if first else set()
    texts = {passage.passage_id: passage.indexed_text for passage in passages}
    queries = sorted((q for q in judged.queries if q.query_id in shared), key=lambda q: digest(seed, q.query_id))
    return {
        name: [
            Triplet(q.text, texts[_positive(judged, q, texts)], texts[found[q.query_id]]) for q in queries[:n_examples]
        ]
        for name, found in first.items()
    }


def _positive(judged: Judged, query: Query, known: Mapping[str, str]) -> str:
    return next(p for p, grade in judged.qrels[query.query_id].items() if grade > 0 and p in known)


def _statistics(
    encoder: DenseEncoder, name: str, triplets: Sequence[Triplet], temperature: float
) -> GradientStatistics:
    """Sums over a stream: the gradients of all examples together would be thousands of models in memory."""
    total: list[Tensor] = []
    weights, norms = [], []
    for weight, gradient in _gradients(encoder, triplets, temperature):
        weights.append(weight)
        norms.append(float(torch.stack([g.double().square().sum() for g in gradient]).sum().sqrt()))
        total = [a + g for a, g in zip(total, gradient, strict=True)] if total else gradient
    n = len(norms)
    if not n:
        return GradientStatistics(name, 0, *(float("nan"),) * 4)
    signal = float(torch.stack([a.double().square().sum() for a in total]).sum().sqrt()) / n
    mean_square = sum(norm**2 for norm in norms) / n
    return GradientStatistics(name, n, sum(weights) / n, sum(norms) / n, max(0.0, mean_square - signal**2), signal)


def _gradients(
    encoder: DenseEncoder, triplets: Sequence[Triplet], temperature: float
) -> Iterator[tuple[float, list[Tensor]]]:
    parameters = [parameter for parameter in encoder.model.parameters() if parameter.requires_grad]
    for triplet in triplets:
        query = encoder.embed(encoder.features(encoder.tokenize([triplet.query], "query"), "query"))
        texts = [triplet.positive, triplet.negative]
        both = encoder.embed(encoder.features(encoder.tokenize(texts, "passage"), "passage"))
        logits = query @ both.T / temperature  # (1, 2)
        loss = F.cross_entropy(logits, torch.zeros(1, dtype=torch.long, device=logits.device))
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        gradient = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        yield float(logits.detach().softmax(dim=1)[0, 1]), gradient
