"""The lean scores are the plain formula's, values and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from bessemer.encoders import batch_scores
from bessemer.encoders.batch_scores import lexical_scores, max_sim

VOCABULARY = 30


def plain_lexical(queries: list[tuple[Tensor, Tensor]], passages: list[tuple[Tensor, Tensor]]) -> Tensor:
    """By the (n, L, V) tensor."""

    def rows(texts: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.cat([(F.one_hot(ids, VOCABULARY) * w[..., None]).amax(dim=1) for ids, w in texts])

    return rows(queries) @ rows(passages).T


def plain_max_sim(queries: list[tuple[Tensor, Tensor]], passages: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Text by text."""
    of_queries, of_passages = (
        [vectors[mask] for texts in side for vectors, mask in zip(*texts, strict=True)] for side in (queries, passages)
    )
    scores = [
        (q @ p.T).max(dim=1).values.mean() if len(q) and len(p) else (q.sum() + p.sum()) * 0
        for q in of_queries
        for p in of_passages
    ]
    return torch.stack(scores).view(len(of_queries), -1)


def test_repeated_tokens_count_once_by_hand() -> None:
    """Query: 7 twice (0.5, 0.75), 3 (2.0). Passages: 7 (4.0), 9; and 3 twice (1.0, 0.25), 7 at weight 0."""
    queries = [(torch.tensor([[7, 3, 7]]), torch.tensor([[0.5, 2.0, 0.75]]))]
    passages = [
        (torch.tensor([[7, 9]]), torch.tensor([[4.0, 5.0]])),
        (torch.tensor([[3, 7, 3, 0]]), torch.tensor([[1.0, 0.0, 0.25, 0.0]])),
    ]
    assert torch.equal(lexical_scores(queries, passages), torch.tensor([[3.0, 2.0]]))


def test_nothing_shared_and_nothing_at_all() -> None:
    empty = [(torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2))]
    other = [(torch.tensor([[5, 6]]), torch.tensor([[1.0, 1.0]]))]
    assert torch.equal(lexical_scores(empty, other), torch.zeros(1, 1))
    assert torch.equal(lexical_scores(other, [(torch.tensor([[9]]), torch.tensor([[1.0]]))]), torch.zeros(1, 1))


def test_padding_does_not_win_where_all_is_negative_by_hand() -> None:
    """Means of maxima: (-0.5 + 0.5) / 2 with the first passage; padding's 0 would have made it (0 + 0.5) / 2. The
    second has no token that counts."""
    queries = [(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]]), torch.tensor([[True, True, False]]))]
    vectors = torch.tensor([[[-0.5, 0.5], [-1.0, 0.25], [0.0, 0.0]], [[1.0, 1.0]] * 3])
    passages = [(vectors, torch.tensor([[True, True, False], [False] * 3]))]
    assert torch.equal(max_sim(queries, passages), torch.tensor([[0.0, 0.0]]))
    assert torch.equal(max_sim([(queries[0][0], torch.zeros(1, 3, dtype=torch.bool))], passages), torch.zeros(1, 2))


shapes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(shapes, shapes, st.integers(0, 2**31))
def test_lexical_scores_and_gradients_are_the_plain_ones(
    q: list[tuple[int, int]], p: list[tuple[int, int]], seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)

    def side(sizes: list[tuple[int, int]]) -> tuple[list[Tensor], list[Tensor]]:
        """Few ids, so that tokens repeat; weights of a head, so that many are 0."""
        ids = [torch.randint(0, VOCABULARY // 3, size, generator=random) for size in sizes]
        return ids, [torch.randn(size, generator=random).requires_grad_() for size in sizes]

    (q_ids, q_heads), (p_ids, p_heads) = side(q), side(p)
    found = []
    for scores_of in (lexical_scores, plain_lexical):
        queries, passages = (
            [(i, head.relu()) for i, head in zip(ids, heads, strict=True)]
            for ids, heads in ((q_ids, q_heads), (p_ids, p_heads))
        )
        scores = scores_of(queries, passages)
        weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
        found.append((scores, *torch.autograd.grad((scores * weights).sum(), q_heads + p_heads)))
    for lean, plain in zip(*found, strict=True):
        torch.testing.assert_close(lean, plain, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(shapes, shapes, st.integers(0, 2**31), st.sampled_from([1, 64, 1 << 20]), st.booleans())
def test_max_sim_and_its_gradients_are_the_plain_ones(
    q: list[tuple[int, int]], p: list[tuple[int, int]], seed: int, block: int, ties: bool
) -> None:
    """``ties``: vectors of small whole numbers, whose products are often equal; the first then has the gradient."""
    random = torch.Generator().manual_seed(seed)

    def side(sizes: list[tuple[int, int]]) -> tuple[list[Tensor], list[Tensor]]:
        vectors = [torch.randn(*size, 3, generator=random) for size in sizes]
        vectors = [v.round() if ties else v for v in vectors]
        return [v.requires_grad_() for v in vectors], [torch.rand(size, generator=random) > 0.3 for size in sizes]

    (q_vectors, q_masks), (p_vectors, p_masks) = side(q), side(p)
    queries, passages = list(zip(q_vectors, q_masks, strict=True)), list(zip(p_vectors, p_masks, strict=True))
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_scores, "CPU_BLOCK", block)
        for scores_of in (max_sim, plain_max_sim):
            scores = scores_of(queries, passages)
            weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1))
            gradients = torch.autograd.grad((scores * weights).sum(), q_vectors + p_vectors, materialize_grads=True)
            found.append((scores, *gradients))
    for lean, plain in zip(*found, strict=True):
        torch.testing.assert_close(lean, plain, rtol=1e-5, atol=1e-5)


def test_bf16_products_are_near_and_the_rest_is_float32() -> None:
    """A bf16 product is off by 2^-9 of itself; the gradient goes to the tokens that are largest in it."""
    torch.manual_seed(0)
    q, p = (F.normalize(torch.randn(4, 9, 32), dim=-1).requires_grad_() for _ in range(2))
    mask = torch.ones(4, 9, dtype=torch.bool)
    exact = max_sim([(q, mask)], [(p, mask)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = max_sim([(q, mask)], [(p, mask)])
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 2**-8
    found.sum().backward()
    assert q.grad is not None
    assert q.grad.dtype == torch.float32


def test_no_token_tables_of_the_vocabulary_and_no_full_products_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the backward pass keeps, in floats: far below 16 * 64 * 20 * 20 products, and no column per token id."""
    monkeypatch.setattr(batch_scores, "CPU_BLOCK", 1 << 12)
    q, p = (F.normalize(torch.randn(n, 20, 8), dim=-1).requires_grad_() for n in (16, 64))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        max_sim([(q, torch.ones(16, 20).bool())], [(p, torch.ones(64, 20).bool())])
    assert max(kept) <= 16 * 64 * 20
    ids = torch.randint(0, 250_000, (16, 20))
    weights = torch.rand(16, 20).requires_grad_()
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        lexical_scores([(ids, weights)], [(ids, weights)])
    assert max(kept) <= 16 * 16 * 20
