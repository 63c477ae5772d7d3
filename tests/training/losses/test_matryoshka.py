from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from bessemer.config import FinetuneConfig
from bessemer.errors import ConfigError
from bessemer.training.losses import batch_loss, info_nce, matryoshka

NCE = partial(info_nce, temperature=0.1)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_mean_over_widths_each_at_its_own_length(normalised: bool) -> None:
    torch.manual_seed(0)
    queries, passages = F.normalize(torch.randn(3, 8), dim=-1), F.normalize(torch.randn(5, 8), dim=-1)
    rest = (torch.arange(3), torch.zeros(3, 5, dtype=torch.bool))
    expected = []
    for width in (8, 4, 2):
        sides = [vectors[:, :width] for vectors in (queries, passages)]
        if normalised:
            sides = [side / side.norm(dim=1, keepdim=True) for side in sides]
        expected.append(NCE(*sides, *rest).item())
    found = matryoshka(NCE, (8, 4, 2), normalised=normalised)(queries, passages, *rest)
    assert found.item() == pytest.approx(sum(expected) / 3, rel=1e-6)


def test_it_is_sentence_transformers_matryoshka_loss_over_the_number_of_widths(minilm) -> None:
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

    model = minilm.model.eval()
    queries, positives = ["how is steel made", "price of iron"], ["Air is blown through iron.", "A few dollars."]
    reference = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model, scale=20.0), [384, 64])
    with torch.no_grad():
        expected = reference([model.preprocess(texts) for texts in (queries, positives)], torch.arange(2))
        sides = [
            minilm.embed(minilm.features(minilm.tokenize(texts, side), side))
            for texts, side in ((queries, "query"), (positives, "passage"))
        ]
        loss = batch_loss(FinetuneConfig(matryoshka_dims=(64,)), 384, normalised=True)
        found = loss(*sides, torch.arange(2), torch.zeros(2, 2, dtype=torch.bool))
    assert 2 * found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_what_cannot_be_is_refused_with_the_reason() -> None:
    def refused(match: str, dimension: int = 384, normalised: bool = True, **settings: object) -> None:
        with pytest.raises(ConfigError, match=match):
            batch_loss(FinetuneConfig(**settings), dimension, normalised=normalised)

    refused(r"matryoshka_dims: \[512\] not within the model's 384 dimensions", matryoshka_dims=(512, 64))
    known = "distillation, hardness, info_nce, margin_mse, mochi, stable_distillation, triplet"
    refused(f"`nce` is no loss for queries with passages; one of: {known}", loss="nce")
    refused("`mochi` has no symmetric or same_tower_negatives; info_nce has", loss="mochi", symmetric=True)
    refused("`hardness` is for cosine models", loss="hardness", normalised=False)
