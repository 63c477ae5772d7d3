"""The choice of alpha by hand, on pools whose scores are a table over the share of tuned weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder
from bessemer.training.dev_pool import EvaluationPool
from bessemer.training.interpolation import Interpolation, choose_alpha, mix
from bessemer.types import Query


def test_mix_by_hand() -> None:
    base = {"w": torch.tensor([1.0, 2.0]), "ids": torch.tensor([1, 2])}
    tuned = {"w": torch.tensor([3.0, -2.0]), "ids": torch.tensor([7, 8])}
    mixed = mix(base, tuned, 0.25)
    assert mixed["w"].tolist() == [1.5, 1.0]
    assert mixed["ids"].tolist() == [7, 8]
    assert mix(base, tuned, 0.0)["w"].tolist() == [1.0, 2.0]
    assert mix(base, tuned, 1.0)["w"].tolist() == [3.0, -2.0]
    assert (base["w"].tolist(), tuned["w"].tolist()) == ([1.0, 2.0], [3.0, -2.0])


@dataclass(frozen=True)
class Table(EvaluationPool):
    """Per-query scores by alpha; the base's weights are all 0 and the tuned all 1, so that a weight tells alpha."""

    by_alpha: Mapping[float, Sequence[float]] = field(default_factory=dict)

    def scores(self, encoder: Encoder) -> NDArray[np.float64]:
        assert isinstance(encoder, DenseEncoder)
        (weights,) = encoder.copy_weights().values()
        assert weights.min() == weights.max()
        return np.array(self.by_alpha[float(weights.max())])


def table(by_alpha: Mapping[float, Sequence[float]]) -> Table:
    queries = tuple(Query(f"q{i}", "text") for i in range(len(by_alpha[1.0])))
    return Table(queries, {}, (), "", by_alpha=by_alpha)


def choose(encoder: DenseEncoder, dev: Table, general: Table | None = None, margin: float = 0.01) -> Interpolation:
    weights = encoder.copy_weights()
    base = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    encoder.load_weights({name: torch.ones_like(weight) for name, weight in weights.items()})
    choice = choose_alpha(encoder, base, dev, general, margin)
    (mixed,) = encoder.copy_weights().values()
    assert (mixed == choice.alpha).all()  # the encoder holds what was chosen
    return choice


DEV = {
    0.0: [0.5, 0.5, 0.5, 0.5],
    0.25: [0.6, 0.6, 0.8, 0.8],
    0.5: [0.6, 0.6, 0.8, 0.8],
    0.75: [0.4, 1.0, 0.8, 0.8],
    1.0: [0.8, 0.8, 0.8, 0.8],
}


def test_the_smallest_alpha_within_one_standard_error(tiny_static: DenseEncoder) -> None:
    # To the best (1.0, mean 0.8): 0.75 differs by .4 -.2 0 0, mean .05, s = sqrt(.19 / 3) = .251661, error .125831: in.
    # 0.25 and 0.5 differ by .2 .2 0 0: mean .1, s = sqrt(.04 / 3) = .115470, error .057735: out.
    choice = choose(tiny_static, table(DEV))
    assert choice.alpha == 0.75
    assert [c.alpha for c in choice.candidates] == [0.25, 0.5, 0.75, 1.0]
    assert [c.dev for c in choice.candidates] == pytest.approx([0.7, 0.7, 0.75, 0.8])
    assert [c.standard_error for c in choice.candidates] == pytest.approx([0.057735, 0.057735, 0.125831, 0.0], abs=1e-6)
    assert choice.base.dev == pytest.approx(0.5)
    assert [c.general for c in choice.candidates] == [None] * 4
    assert choice.reason == "best on dev: 1; 0.75 is the smallest within one standard error of it"


def test_equal_on_dev_means_the_smallest(tiny_static: DenseEncoder) -> None:
    assert choose(tiny_static, table(dict.fromkeys(DEV, (0.3, 0.7)))).alpha == 0.25


def test_one_query_has_no_error_to_hide_behind(tiny_static: DenseEncoder) -> None:
    assert choose(tiny_static, table({alpha: [alpha] for alpha in DEV})).alpha == 1.0


def test_alphas_that_lose_more_than_the_margin_are_out(tiny_static: DenseEncoder) -> None:
    general = table({0.0: [0.8], 0.25: [0.81], 0.5: [0.795], 0.75: [0.78], 1.0: [0.7]})
    dev = table({0.0: [0.1], 0.25: [0.2], 0.5: [0.3], 0.75: [0.4], 1.0: [0.5]})
    choice = choose(tiny_static, dev, general, margin=0.01)
    assert choice.alpha == 0.5
    assert [c.general for c in choice.candidates] == [0.81, 0.795, 0.78, 0.7]
    assert choice.reason.endswith("out for losing too much on the general set: 0.75, 1")


def test_when_all_lose_too_much_the_smallest_stays(tiny_static: DenseEncoder) -> None:
    general = table({0.0: [0.8], 0.25: [0.5], 0.5: [0.4], 0.75: [0.3], 1.0: [0.2]})
    assert choose(tiny_static, table(DEV), general).alpha == 0.25


def test_a_general_set_without_queries_is_none(tiny_static: DenseEncoder) -> None:
    choice = choose(tiny_static, table(DEV), Table((), {}, (), ""))
    assert choice.alpha == 0.75
    assert choice.base.general is None


def test_scores_that_are_known_are_not_measured_again(tiny_static: DenseEncoder) -> None:
    between = {alpha: scores for alpha, scores in DEV.items() if 0 < alpha < 1}  # the others would be a KeyError
    dev = Table(tuple(Query(f"q{i}", "text") for i in range(4)), {}, (), "", base=tuple(DEV[0.0]), by_alpha=between)
    encoder_weights = tiny_static.copy_weights()
    base = {name: torch.zeros_like(weight) for name, weight in encoder_weights.items()}
    tiny_static.load_weights({name: torch.ones_like(weight) for name, weight in encoder_weights.items()})
    choice = choose_alpha(tiny_static, base, dev, None, 0.01, np.array(DEV[1.0]))
    assert choice == choose(tiny_static, table(DEV))


def test_the_general_set_of_a_known_base_is_measured_for_mixtures_only(tiny_static: DenseEncoder) -> None:
    scores = {0.0: [0.8], 0.25: [0.81], 0.5: [0.795], 0.75: [0.78], 1.0: [0.7]}
    of_mixtures = {alpha: values for alpha, values in scores.items() if alpha}  # alpha 0 would be a KeyError
    known = Table((Query("q0", "text"),), {}, (), "", base=(0.8,), by_alpha=of_mixtures)
    assert choose(tiny_static, table(DEV), known) == choose(tiny_static, table(DEV), table(scores))
