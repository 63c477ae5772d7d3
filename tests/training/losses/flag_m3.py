"""A batch for FlagEmbedding's M3 loss and for ours, made without a random number: the same on every machine.

Run by itself, where FlagEmbedding 1.4.2 can be imported, it prints what ``test_unified_flag.py`` holds.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

HIDDEN, DIMENSION, VOCABULARY, TEMPERATURE = 12, 8, 40, 0.05
CLS, EOS, PAD, UNK = 0, 2, 1, 3
QUERIES = [[10, 11, 12], [13, 14, 13, 15], [16, 17]]
PASSAGES = [[10, 12, 18, 19, 10], [20, 11, 21], [13, 15, 22, 23], [14, 24, 25, 26, 27, 28], [17, 29], [16, 30, 31, 32]]


def waves(*shape: int, pace: float) -> Tensor:
    """Numbers from -1 to 1 that look random."""
    n = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(pace * n * n).float().view(shape)


def padded(texts: list[list[int]]) -> dict[str, Tensor]:
    rows = [[CLS, *text, EOS] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long()}


class Body(nn.Module):
    """In place of a transformer: a table of hidden states by token and place, all near one direction, so that every
    largest product is above zero (where it is not, FlagEmbedding's zeroed padding wins and ours does not)."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=VOCABULARY, hidden_size=HIDDEN)
        self.tokens = nn.Parameter(waves(VOCABULARY, HIDDEN, pace=0.37))
        self.places = nn.Parameter(0.3 * waves(16, HIDDEN, pace=0.73))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SimpleNamespace:
        hidden = self.tokens[input_ids] + self.places[: input_ids.shape[1]] + 0.5
        return SimpleNamespace(last_hidden_state=hidden)


def linear(n_in: int, n_out: int, pace: float) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    with torch.no_grad():
        layer.weight.copy_(waves(n_out, n_in, pace=pace))
        layer.bias.copy_(0.5 + 0.1 * waves(n_out, pace=2 * pace))
    return layer


def heads() -> tuple[nn.Linear, nn.Linear]:
    """Sparse and multi-vector."""
    sparse = linear(HIDDEN, 1, 0.91)
    with torch.no_grad():
        sparse.weight.mul_(0.2)
    return sparse, linear(HIDDEN, DIMENSION, 0.53)


def flag_embedding_loss(*, self_distillation: bool) -> dict[str, Any]:
    """The loss and the norm of its gradient for the table and both heads. Raises ImportError without FlagEmbedding."""
    from FlagEmbedding.finetune.embedder.encoder_only.m3.modeling import EncoderOnlyEmbedderM3Model

    sparse, multi_vector = heads()
    tokenizer = SimpleNamespace(
        cls_token_id=CLS, eos_token_id=EOS, pad_token_id=PAD, unk_token_id=UNK, padding_side="right"
    )
    body = Body()
    model = EncoderOnlyEmbedderM3Model(
        {"model": body, "sparse_linear": sparse, "colbert_linear": multi_vector},
        tokenizer=tokenizer,
        temperature=TEMPERATURE,
        normalize_embeddings=True,
        use_self_distill=self_distillation,
        self_distill_start_step=-1,
    )
    model.train()
    loss = model(queries=padded(QUERIES), passages=padded(PASSAGES)).loss
    return numbers(loss, body, sparse, multi_vector)


def numbers(loss: Tensor, body: Body, sparse: nn.Linear, multi_vector: nn.Linear) -> dict[str, Any]:
    loss.backward()
    norms = {"tokens": body.tokens.grad, "sparse": sparse.weight.grad, "multi_vector": multi_vector.weight.grad}
    return {"loss": loss.item(), **{name: float(gradient.norm()) for name, gradient in norms.items()}}


if __name__ == "__main__":
    for self_distillation in (False, True):
        print(self_distillation, flag_embedding_loss(self_distillation=self_distillation))
