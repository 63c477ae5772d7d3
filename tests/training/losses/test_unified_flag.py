"""Our unified loss against FlagEmbedding 1.4.2's: its numbers, frozen; recomputed where it can be imported."""

from __future__ import annotations

from typing import Any

import flag_m3
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.encoders.batch_scores import lexical_scores, max_sim
from bessemer.encoders.unified_heads import UnifiedHeads
from bessemer.training.losses.unified import unified_loss

FROZEN = {
    False: {"loss": 2.2572799, "tokens": 1.4968404, "sparse": 5.7400398, "multi_vector": 1.0580605},
    True: {"loss": 1.6832867, "tokens": 0.7385404, "sparse": 2.9628501, "multi_vector": 0.5164719},
}
"""Loss and norms of gradients, with and without self-distillation (``python tests/training/losses/flag_m3.py``)."""


def our_loss(*, self_distillation: bool) -> dict[str, Any]:
    body = flag_m3.Body()
    heads = UnifiedHeads(flag_m3.HIDDEN, flag_m3.DIMENSION, [flag_m3.CLS, flag_m3.EOS, flag_m3.PAD, flag_m3.UNK])
    heads.sparse, heads.multi_vector = flag_m3.heads()

    def represented(texts: list[list[int]]) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        features = flag_m3.padded(texts)
        ids, attention_mask = features["input_ids"], features["attention_mask"]
        hidden = body(**features).last_hidden_state
        weights, vectors = heads(hidden, ids, attention_mask)
        return F.normalize(hidden[:, 0], dim=-1), (ids, weights), (vectors, heads.token_mask(ids, attention_mask))

    queries, passages = represented(flag_m3.QUERIES), represented(flag_m3.PASSAGES)
    scores: Any = {
        "dense": queries[0] @ passages[0].T,
        "sparse": lexical_scores([queries[1]], [passages[1]]),
        "multi_vector": max_sim([queries[2]], [passages[2]]),
    }
    nothing = torch.zeros(3, 6, dtype=torch.bool)
    given = scores, torch.tensor([0, 2, 4]), nothing, flag_m3.TEMPERATURE
    loss, _ = unified_loss(*given, self_distillation=self_distillation)
    return flag_m3.numbers(loss, body, heads.sparse, heads.multi_vector)


@pytest.mark.parametrize("self_distillation", [False, True])
def test_loss_and_gradients_are_flag_embeddings(self_distillation: bool) -> None:
    assert our_loss(self_distillation=self_distillation) == pytest.approx(FROZEN[self_distillation], rel=1e-4)


@pytest.mark.parametrize("self_distillation", [False, True])
def test_the_frozen_numbers_are_flag_embeddings(self_distillation: bool) -> None:
    pytest.importorskip("FlagEmbedding")
    found = flag_m3.flag_embedding_loss(self_distillation=self_distillation)
    assert found == pytest.approx(FROZEN[self_distillation], rel=1e-4)
