from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bessemer.answers.answer_cache import SAME_QUESTION, AnswerCache, telling
from bessemer.errors import ArtifactError

EVIDENCE = {"p1": "hash", "p2": "other"}
VECTOR = np.array([1, 0], dtype=np.float32)


def at(cosine: float) -> np.ndarray:
    return np.array([cosine, (1 - cosine**2) ** 0.5], dtype=np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with AnswerCache(tmp_path / "answers.sqlite", "context") as cache:
        cache.keep("how often may it start", VECTOR, {"answer": "twelve"}, EVIDENCE)
    return tmp_path / "answers.sqlite"


def test_the_same_meaning_gets_the_same_answer(file: Path) -> None:
    with AnswerCache(file, "context") as cache:
        found = cache.find("how many starts are allowed", at(SAME_QUESTION + 0.01), lambda _: EVIDENCE)
        assert found == ("how often may it start", {"answer": "twelve"})
        assert cache.find("how many starts are allowed", at(SAME_QUESTION - 0.01), lambda _: EVIDENCE) is None


@pytest.mark.parametrize("now", [{"p1": "changed", "p2": "other"}, {"p1": "hash"}, {**EVIDENCE, "p3": "new"}])
def test_other_passages_end_it(file: Path, now: dict[str, str]) -> None:
    with AnswerCache(file, "context") as cache:
        assert cache.find("how often may it start", VECTOR, lambda _: now) is None
        assert cache.find("how often may it start", VECTOR, lambda _: EVIDENCE) is None  # forgotten


def test_another_model_or_index_knows_nothing_of_it(file: Path) -> None:
    with AnswerCache(file, "another") as cache:
        assert cache.find("how often may it start", VECTOR, lambda _: EVIDENCE) is None


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("what does E17 mean", "what does E18 mean", False),
        ("what does E17 mean", "the meaning of E17?", True),
        ("may I start it", "may I not start it", False),
        ("limits for the EU", "limits for the US", False),
        ("limits in 2024", "limits in 2025", False),
        ("可以启动吗", "不可以启动吗", False),
        ("How often may it start?", "how many starts are allowed", True),
    ],
)
def test_numbers_codes_and_negations_make_another_question(left: str, right: str, same: bool, tmp_path: Path) -> None:
    assert (telling(left) == telling(right)) == same
    with AnswerCache(tmp_path / "a.sqlite", "c") as cache:
        cache.keep(left, VECTOR, {"answer": "x"}, EVIDENCE)
        assert (cache.find(right, VECTOR, lambda _: EVIDENCE) is not None) == same


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 30)
    with pytest.raises(ArtifactError, match="move it away"):
        AnswerCache(tmp_path / "a.sqlite", "c")
