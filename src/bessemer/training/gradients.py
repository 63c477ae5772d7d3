"""What the negatives of a strategy teach: the exact gradient of every example, measured on the model at hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bessemer.draws import digest
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Side
from bessemer.training.cpu import memory_kept, sparse_gradient
from bessemer.types import HardNegatives, Judged, Passage, Query

Gradient = Sequence[Tensor]
"""One tensor per parameter; of a token table, sparse rows."""


@dataclass(frozen=True)
class GradientStatistics:
    """Of the loss ``-log(e^{s+/t} / (e^{s+/t} + e^{s-/t}))`` over examples of one positive and one negative each.

    weight     mean softmax share of the negative: near 0, it teaches nothing; above 0.5, it outranks the positive.
    norm       mean length of the per-example gradient with respect to all weights.
    variance   mean squared distance of the per-example gradients from the expected one.
    signal     length of the expected gradient, and
    shared     the share that its square has in the mean square of a gradient: what all examples agree on.

    The last three are free of the bias of few examples: the mean of n gradients that have nothing in common is still
    as long as their norm / sqrt(n). The square of the expected gradient is estimated by the mean product of two
    different ones, which can be negative by chance: ``signal`` is 0 then, and ``shared`` says by how much.
    """

    strategy: str
    n_examples: int
    weight: float
    norm: float
    variance: float
    signal: float
    shared: float


@dataclass(frozen=True)
class Contrast:
    """A query, the text of one of its positives, and the text of one negative per strategy."""

    query: Query
    positive: str
    negatives: Mapping[str, str]


def shared_contrasts(
    judged: Judged,
    passages: Sequence[Passage],
    negatives: Mapping[str, Sequence[HardNegatives]],
    n_examples: int,
    seed: int,
) -> list[Contrast]:
    """At most ``n_examples`` of the queries that have a negative under every strategy, drawn by ``seed``, each with
    the first negative of every strategy."""
    first = {
        name: {row.query_id: row.passage_ids[0] for row in rows if row.passage_ids} for name, rows in negatives.items()
    }
    shared = set.intersection(*(set(found) for found in first.values())) if first else set()
    texts = {passage.passage_id: passage.indexed_text for passage in passages}
    queries = sorted((q for q in judged.queries if q.query_id in shared), key=lambda q: digest(seed, q.query_id))
    return [
        Contrast(
            query=query,
            positive=texts[_positive(judged, query, texts)],
            negatives={name: texts[found[query.query_id]] for name, found in first.items()},
        )
        for query in queries[:n_examples]
    ]


def _positive(judged: Judged, query: Query, known: Mapping[str, str]) -> str:
    return next(p for p, grade in judged.qrels[query.query_id].items() if grade > 0 and p in known)


def measure_gradients(
    encoder: DenseEncoder, contrasts: Sequence[Contrast], temperature: float
) -> list[GradientStatistics]:
    """One row per strategy, in the order of the first contrast; every contrast names the same strategies.

    In float32 and without dropout; the encoder keeps its weights. Holds one gradient of the whole model per strategy.
    """
    if not contrasts:
        return []
    parameters = [parameter for parameter in encoder.model.parameters() if parameter.requires_grad]
    sums = {name: _Sums(parameters) for name in contrasts[0].negatives}
    with _for_single_gradients(encoder):
        for contrast in contrasts:
            for text, weight, gradient in _gradients(encoder, parameters, contrast, temperature):
                for name in (name for name, negative in contrast.negatives.items() if negative == text):
                    sums[name].add(weight, gradient)
    return [found.statistics(name) for name, found in sums.items()]


@contextmanager
def _for_single_gradients(encoder: DenseEncoder) -> Iterator[None]:
    """A text touches few rows of a token table (30,522 x 384 for MiniLM): only they are asked for."""
    was_training = encoder.model.training
    encoder.model.eval()
    with ExitStack() as stack:
        stack.callback(encoder.model.train, was_training)
        stack.enter_context(memory_kept())
        for module in encoder.model.modules():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                stack.enter_context(sparse_gradient(module))
        yield


def _gradients(
    encoder: DenseEncoder, parameters: Sequence[nn.Parameter], contrast: Contrast, temperature: float
) -> Iterator[tuple[str, float, Gradient]]:
    """Per distinct negative its text, its weight w and the gradient of the loss, by the chain rule:

    w / t * (grad s- - grad s+), where grad s = J(q)^T d + J(d)^T q for a score s = q . d.

    All negatives share the query's forward pass and the positive's J(d)^T q.
    """
    query = _embed(encoder, contrast.query.searched_text, "query")  # (d,)
    positive = _embed(encoder, contrast.positive, "passage")
    of_positive = _product([positive], parameters, [query])
    for text in dict.fromkeys(contrast.negatives.values()):
        negative = _embed(encoder, text, "passage")
        apart = (negative - positive).detach()
        weight = float(torch.sigmoid(apart @ query.detach() / temperature))
        scale = weight / temperature
        of_others = _product([query, negative], parameters, [scale * apart, scale * query])
        yield text, weight, [torch.sub(o, p, alpha=scale) for o, p in zip(of_others, of_positive, strict=True)]


def _embed(encoder: DenseEncoder, text: str, side: Side) -> Tensor:
    return encoder.embed(encoder.features(encoder.tokenize([text], side), side))[0]


def _product(vectors: Sequence[Tensor], parameters: Sequence[nn.Parameter], by: Sequence[Tensor]) -> Gradient:
    """The sum over ``vectors`` (d,) of J(vector)^T times its own of ``by`` (d,)."""
    return torch.autograd.grad(
        vectors, parameters, [vector.detach() for vector in by], retain_graph=True, materialize_grads=True
    )


class _Sums:
    """Over the gradients of one strategy: all of them together would be hundreds of models in memory."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.total = [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]
        self.weights: list[float] = []
        self.norms: list[float] = []

    def add(self, weight: float, gradient: Gradient) -> None:
        self.weights.append(weight)
        self.norms.append(_length(gradient))
        for total, part in zip(self.total, gradient, strict=True):
            total += part

    def statistics(self, strategy: str) -> GradientStatistics:
        n = len(self.norms)
        mean_square = sum(norm**2 for norm in self.norms) / n
        of_pairs = (_length(self.total) ** 2 / n - mean_square) / (n - 1) if n > 1 else math.nan
        return GradientStatistics(
            strategy=strategy,
            n_examples=n,
            weight=sum(self.weights) / n,
            norm=sum(self.norms) / n,
            variance=mean_square - of_pairs,
            signal=math.sqrt(max(of_pairs, 0.0)),  # NaN stays NaN
            shared=of_pairs / mean_square if mean_square else math.nan,
        )


def _length(gradient: Gradient) -> float:
    parts = [part.coalesce().values() if part.is_sparse else part for part in gradient]
    return math.sqrt(sum(float(torch.linalg.vector_norm(part, dtype=torch.float64)) ** 2 for part in parts))
