"""The fast CPU path gives what plain torch gives: outputs, gradients, and the model back as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from bessemer.encoders.load import load_encoder
from bessemer.training.cpu import ATTENTION, PLAIN_ATTENTION, ByteDropout, bf16_attention, fast_training

TEXTS = ["a short one", "a text that is somewhat longer than the first of the three", "mass spectrometry " * 20]


def gradients(encoder, *, bf16: bool) -> dict[str, torch.Tensor]:
    """Of a loss that tells all outputs apart, dropout off."""
    encoder.model.zero_grad()
    encoder.model.eval()
    for texts in (TEXTS, TEXTS[:2]):  # two uses of the token table, as two mini-batches make
        features = encoder.features(encoder.tokenize(texts, "passage"), "passage")
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            vectors = encoder.embed(features)
        (vectors * torch.linspace(-1, 1, vectors.numel()).view_as(vectors)).sum().backward()
    found = {name: p.grad.clone() for name, p in encoder.model.named_parameters() if p.grad is not None}
    encoder.model.zero_grad()
    return found


def test_in_fp32_gradients_equal_plain_torch():
    encoder = load_encoder("minilm", bf16=False)
    plain = gradients(encoder, bf16=False)
    with fast_training(encoder, bf16=False):
        fast = gradients(encoder, bf16=False)
    assert fast.keys() == plain.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(fast[name], expected, rtol=1e-5, atol=1e-7, msg=name)
        assert not fast[name].is_sparse


def test_in_bf16_gradients_are_as_near_to_fp32_as_autocast_s_own():
    encoder = load_encoder("minilm")
    exact = gradients(encoder, bf16=False)
    plain = gradients(encoder, bf16=True)
    with fast_training(encoder, bf16=True):
        fast = gradients(encoder, bf16=True)

    def distance(found: dict[str, torch.Tensor]) -> float:
        errors = [(found[name] - exact[name]).square().sum() for name in exact]
        return float(torch.stack(errors).sum().sqrt() / torch.cat([g.flatten() for g in exact.values()]).norm())

    assert distance(fast) < 1.25 * distance(plain)
    assert distance(fast) < 0.05


@pytest.mark.parametrize("model_type", sorted(PLAIN_ATTENTION))
def test_attention_is_the_model_s_own_on_every_model_type_that_gets_it(model_type):
    sizes = {"vocab_size": 50, "attention_dropout": 0.0, "dropout": 0.0}
    sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    if model_type == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **sizes), attn_implementation="eager").eval()
    ids = torch.randint(5, 50, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
    model.set_attn_implementation(ATTENTION)
    assert model.config._attn_implementation == ATTENTION
    torch.testing.assert_close(
        model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()], expected[mask.bool()]
    )


def test_attention_gradients_with_dropout_are_those_of_the_written_out_formula():
    """The bytes that were drawn are drawn again under the same seed and put into plain torch operations."""
    torch.manual_seed(1)
    query, key, value = (torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    mask[1, :, :, 3:] = torch.finfo(torch.float32).min
    module = nn.Module().train()
    weights = torch.randn(2, 5, 3, 4, dtype=torch.float64)

    torch.manual_seed(7)
    out, _ = bf16_attention(module, query, key, value, mask, scaling=0.5, dropout=0.25)
    found = torch.autograd.grad((out * weights).sum(), (query, key, value))

    torch.manual_seed(7)
    draws = torch.empty(2 * 3 * 5 * 5 // 8 + 1, dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.uint8)[: 2 * 3 * 5 * 5].view(2, 3, 5, 5) >= 64
    assert 0 < int((~kept).sum()) < kept.numel() / 2
    probabilities = torch.softmax(query @ key.transpose(2, 3) * 0.5 + mask, dim=-1)
    expected_out = ((probabilities * kept / 0.75) @ value).transpose(1, 2)
    torch.testing.assert_close(out, expected_out)
    expected = torch.autograd.grad((expected_out * weights).sum(), (query, key, value))
    torch.testing.assert_close(found, expected)


def test_a_fully_masked_row_gives_numbers():
    query, key, value = (torch.randn(1, 1, 4, 8).bfloat16() for _ in range(3))
    mask = torch.full((1, 1, 4, 4), torch.finfo(torch.float32).min)
    out, _ = bf16_attention(nn.Module().eval(), query, key, value, mask)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_keeps_the_mean(dtype):
    torch.manual_seed(3)
    x = torch.ones(1000, 1003, dtype=dtype, requires_grad=True)  # not a multiple of eight
    y = ByteDropout(0.1).train()(x)
    dropped = (y == 0).double()
    share = 26 / 256
    assert abs(float(dropped.mean()) - share) < 5 * (share * (1 - share) / x.numel()) ** 0.5
    by_position = dropped.flatten()[: 8 * 125_000].view(-1, 8).mean(0)  # every byte of a draw is used alike
    assert (by_position - share).abs().max() < 5 * (share * (1 - share) / 125_000) ** 0.5
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - share)))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y.detach())


def test_dropout_is_off_in_evaluation_and_follows_torch_s_seed():
    x = torch.randn(64, 64)
    module = ByteDropout(0.5)
    assert torch.equal(module.eval()(x), x)
    module.train()
    torch.manual_seed(5)
    first = module(x)
    second = module(x)
    torch.manual_seed(5)
    assert torch.equal(module(x), first)
    assert not torch.equal(first, second)


def test_the_model_is_as_before_afterwards_also_after_an_error():
    encoder = load_encoder("minilm")
    transformer = encoder.model[0].model
    kinds = [type(module) for module in transformer.modules()]
    attention, fingerprint = transformer.config._attn_implementation, encoder.fingerprint

    def fails() -> None:
        with fast_training(encoder, bf16=True):
            assert any(isinstance(module, ByteDropout) for module in transformer.modules())
            assert not any(type(module) is nn.Dropout for module in transformer.modules())
            assert transformer.get_input_embeddings().sparse
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [type(module) for module in transformer.modules()] == kinds
    assert transformer.config._attn_implementation == attention
    assert not transformer.get_input_embeddings().sparse
    assert encoder.fingerprint == fingerprint
