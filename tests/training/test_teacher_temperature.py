"""The temperature of a teacher: by hand, by the target it shall reach, and where that cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from bessemer.config import FinetuneConfig, load_config
from bessemer.errors import ConfigError
from bessemer.training.teacher_temperature import effective_candidates, settled_temperature


def test_effective_candidates_by_hand() -> None:
    # Weights 1/2 1/2; 3/4 1/4: exp(0.75 ln(4/3) + 0.25 ln 4) = exp(0.5623) = 1.7548; all alike: their number.
    found = effective_candidates([[5.0, 5.0], [math.log(9), 0.0], [1.0, 1.0, 1.0, 1.0]], 2.0)
    assert found == pytest.approx([2.0, 1.75477, 4.0], abs=1e-5)


@given(st.lists(st.lists(st.floats(-30, 30), min_size=2, max_size=6), min_size=1, max_size=5), st.floats(0.1, 10))
def test_effective_candidates_are_exp_of_scipy_s_entropy_and_grow_with_the_temperature(
    scores: list[list[float]], temperature: float
) -> None:
    expected = []
    for own in scores:
        weights = np.exp((np.array(own) - max(own)) / temperature)
        expected.append(math.exp(entropy(weights)))
    found = effective_candidates(scores, temperature)
    assert found == pytest.approx(expected, rel=1e-6)
    assert (effective_candidates(scores, 2 * temperature) >= found - 1e-9).all()


def log_likelihoods(n: int = 40, n_candidates: int = 8, unit: float = 1.0) -> list[list[float]]:
    return (unit * np.random.default_rng(3).normal(size=(n, n_candidates))).tolist()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 500.0])
@pytest.mark.parametrize("target", [1.5, 3.0, 7.9])
def test_auto_reaches_its_target_whatever_the_unit_of_the_scores(unit: float, target: float) -> None:
    scores = log_likelihoods(unit=unit)
    found = settled_temperature("auto", target, scores)
    assert np.median(effective_candidates(scores, found.value)) == pytest.approx(target, rel=1e-6)
    assert found.effective == pytest.approx(target, rel=1e-6)
    assert found.value == pytest.approx(unit * settled_temperature("auto", target, log_likelihoods()).value, rel=1e-6)
    assert found.notes() == (
        f"teacher temperature {found.value:.4g} (auto): the median query has {target:.2f} effective candidates of 8",
    )


def test_without_a_target_it_is_the_root_of_the_number_of_candidates() -> None:
    scores = [*log_likelihoods(6, 4), *log_likelihoods(5, 9), *log_likelihoods(6, 16)]  # the median has 9
    assert settled_temperature("auto", None, scores).effective == pytest.approx(3.0, rel=1e-6)
    assert settled_temperature("auto", None, log_likelihoods(9, 2)).effective == pytest.approx(2**0.5, rel=1e-6)


def test_a_temperature_that_is_given_is_used() -> None:
    found = settled_temperature(2.0, None, [[math.log(9), 0.0]] * 3)
    assert (found.value, found.asked, found.candidates) == (2.0, True, 2.0)
    assert found.notes() == ("teacher temperature 2 (as asked): the median query has 1.75 effective candidates of 2",)


def test_more_candidates_than_there_are_cannot_be_asked_for() -> None:
    message = "finetune.teacher_candidates: 9 effective candidates are asked for, and the median query has 8 at most"
    with pytest.raises(ConfigError, match=message):
        settled_temperature("auto", 9.0, log_likelihoods())


def test_ties_above_the_target_leave_a_temperature_near_zero() -> None:
    found = settled_temperature("auto", 1.5, [[1.0, 1.0, 1.0, 0.0]] * 3)
    assert found.effective == pytest.approx(3.0)
    assert 0 < found.value < 1e-3
    all_alike = settled_temperature("auto", 2.0, [[1.0, 1.0, 1.0]] * 3)
    assert all_alike.effective == pytest.approx(3.0)


def test_a_teacher_that_is_nearly_one_hot_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="bessemer"):
        settled_temperature(2.0, None, [[8.0, 0.0]] * 3)  # weights 0.982 0.018: 1.094
        settled_temperature(2.0, None, [[7.0, 0.0]] * 3)  # 0.971 0.029: 1.143
    (record,) = caplog.records
    assert record.getMessage().startswith("the teacher is nearly one-hot (below 1.1 effective candidates)")
    assert record.getMessage() in settled_temperature(2.0, None, [[8.0, 0.0]] * 3).notes()


@pytest.mark.parametrize("bad", ["0", "-1", "soft", "nan", ".inf"])
def test_a_temperature_is_auto_or_above_zero(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"teacher-temperature|teacher_temperature: give auto, or a number above 0"):
        load_config(None, {"finetune.teacher_temperature": bad})
    assert load_config(None, {"finetune.teacher_temperature": "0.5"}).finetune.teacher_temperature == 0.5
    assert FinetuneConfig().teacher_temperature == "auto"
