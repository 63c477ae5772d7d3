from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bessemer.answers.answer_cache import AnswerCache
from bessemer.errors import ArtifactError

VECTOR = np.array([0.6, 0.8], dtype=np.float32)
EVIDENCE = {"p1": "hash", "p2": "other"}
QUESTION = "How often may the pump start?"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with AnswerCache(tmp_path / "answers.sqlite", "context") as cache:
        cache.keep(QUESTION, VECTOR, {"answer": "twelve"}, EVIDENCE)
    return tmp_path / "answers.sqlite"


@pytest.mark.parametrize("now", [{"p1": "changed", "p2": "other"}, {"p1": "hash"}, {**EVIDENCE, "p3": "new"}])
def test_other_passages_end_it(file: Path, now: dict[str, str]) -> None:
    with AnswerCache(file, "context") as cache:
        assert cache.find(QUESTION, lambda _: EVIDENCE) == (QUESTION, {"answer": "twelve"})
        assert cache.find(QUESTION, lambda _: now) is None
        assert cache.find(QUESTION, lambda _: EVIDENCE) is None  # forgotten


def test_another_model_or_index_knows_nothing_of_it(file: Path) -> None:
    with AnswerCache(file, "another") as cache:
        assert cache.find(QUESTION, lambda _: EVIDENCE) is None


def test_the_newest_answer_stands(file: Path) -> None:
    with AnswerCache(file, "context") as cache:
        cache.keep("how often may pump start", VECTOR, {"answer": "six"}, EVIDENCE)
        assert cache.find(QUESTION, lambda _: EVIDENCE) == ("how often may pump start", {"answer": "six"})


@pytest.mark.parametrize(
    ("asked", "again"),
    [
        (QUESTION, "  how often may the pump\tstart ?"),
        (QUESTION, "Please how often may the pump start"),
        ("What does E17 mean?", "what does E17 mean."),
        ("A valve or two?", "A  valve or two"),
        ("Wie oft darf sie starten?", "wie oft darf sie bitte starten"),
        ("请问，水泵可以启动吗？", "水泵可以启动"),
    ],
)
def test_the_same_words_get_the_same_answer(asked: str, again: str, tmp_path: Path) -> None:
    assert answers(asked, again, tmp_path)


@pytest.mark.parametrize(
    ("asked", "again"),
    [
        # negations
        ("Will the pump start?", "Won't the pump start?"),
        ("Are valves closed at night?", "Aren't valves closed at night?"),
        ("Did the motor stop?", "Didn't the motor stop?"),
        ("Can I start it?", "Can't I start it?"),
        ("May I start it?", "May I not start it?"),
        ("Who knew of somebody?", "Who knew of nobody?"),
        ("What is always allowed?", "What is never allowed?"),
        ("Is something needed?", "Is nothing needed?"),
        ("Is there a limit?", "Is there no limit?"),
        ("Does it run with oil?", "Does it run without oil?"),
        ("Muss ich sie warten?", "Muss ich sie nicht warten?"),
        ("Gibt es eine Grenze?", "Gibt es keine Grenze?"),
        ("Wann ist ein Filter nötig?", "Wann ist kein Filter nötig?"),
        ("Was ist je erlaubt?", "Was ist nie erlaubt?"),
        ("Läuft sie mit Öl?", "Läuft sie ohne Öl?"),
        ("水泵可以启动吗？", "水泵不可以启动吗？"),
        ("水泵启动了吗？", "水泵没启动吗？"),
        ("水泵有故障吗？", "水泵无故障吗？"),
        ("这是正常情况吗？", "这是非正常情况吗？"),
        ("订单已付款怎么办？", "订单未付款怎么办？"),
        ("开阀门吗？", "别开阀门吗？"),
        # numbers
        ("Which two filters need water?", "Which three filters need water?"),
        ("Limits in 2024?", "Limits in 2025?"),
        ("What does 1.5 bar mean?", "What does 15 bar mean?"),
        ("Is -5 allowed?", "Is 5 allowed?"),
        ("Was tun zwei Pumpen?", "Was tun drei Pumpen?"),
        ("两台水泵怎么启动？", "三台水泵怎么启动？"),
        # codes, names, units
        ("What does E17 mean?", "What does E18 mean?"),
        ("Limits for the EU?", "Limits for the US?"),
        ("Limits for US?", "Limits for us?"),
        ("How many kB go in?", "How many kb go in?"),
        ("Is there an API for C++?", "Is there an API for C?"),
        # other words, and the same in another order
        ("How do I open the valve?", "How do I close the valve?"),
        ("Convert EUR to USD?", "Convert USD to EUR?"),
        ("How do I change the oil filter?", "How do I change the filter oil?"),
        ("怎么保存蜂蜜？", "怎么保存蜜蜂？"),
    ],
)
def test_whatever_may_change_the_answer_makes_another_question(asked: str, again: str, tmp_path: Path) -> None:
    assert not answers(asked, again, tmp_path)


def answers(asked: str, again: str, folder: Path) -> bool:
    """Whether the answer to ``asked`` is given for ``again``."""
    with AnswerCache(folder / "a.sqlite", "c") as cache:
        cache.keep(asked, VECTOR, {"answer": "x"}, EVIDENCE)
        return cache.find(again, lambda _: EVIDENCE) is not None


def test_the_nearest_question_is_that_of_the_highest_cosine(file: Path) -> None:
    """(.6, .8) has a cosine of .96 with (.8, .6) and of .6 with (1, 0), below ALIKE; (.28, .96) has .936 with it and
    .96 with (0, 1)."""

    def nearest(cache: AnswerCache, *vector: float) -> str | None:
        return cache.nearest(np.array(vector, dtype=np.float32))

    with AnswerCache(file, "context") as cache:
        cache.keep("What stops the motor?", np.array([0.0, 1.0], dtype=np.float32), {"answer": "heat"}, EVIDENCE)
        assert nearest(cache, 0.8, 0.6) == QUESTION
        assert nearest(cache, 0.28, 0.96) == "What stops the motor?"
        assert nearest(cache, 1.0, 0.0) is None
        assert nearest(cache, 0.0, 0.0) is None
    with AnswerCache(file, "another") as cache:
        assert cache.nearest(VECTOR) is None


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 30)
    with pytest.raises(ArtifactError, match="move it away"):
        AnswerCache(tmp_path / "a.sqlite", "c")
