from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.artifacts import LONG, load_result, result_classes, save_result
from bessemer.config import EvaluationConfig, FinetuneConfig
from bessemer.content_hash import content_hash
from bessemer.errors import ArtifactError
from bessemer.types import (
    Collection,
    Document,
    Dropped,
    Filtered,
    HardNegatives,
    Judged,
    Passage,
    Query,
    Run,
    TrainingExample,
)


@dataclass(frozen=True)
class Inner:
    curve: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Trained:
    model: Path
    inner: Inner
    settings: FinetuneConfig
    vectors: np.ndarray[Any, Any]
    best: Inner | None = None


@dataclass(frozen=True)
class Unannounced:
    x: int


def returns_trained() -> Mapping[str, Trained]:
    raise NotImplementedError


def returns_anything() -> Any:
    raise NotImplementedError


def round_trip(value: Any, folder: Path, function: Any = returns_anything) -> Any:
    (folder / "work").mkdir(parents=True, exist_ok=True)
    classes = result_classes(function)
    save_result(value, folder, classes)
    return load_result(folder, classes)


def passages(n: int) -> tuple[Passage, ...]:
    return tuple(Passage(f"p{i}", "d", f"第{i}段\u2028\n", "t", 0, 4, ("a", "b"), ((0, 1), (2, 3))) for i in range(n))


QUERIES = (Query("q1", "one", answers=("a",)), Query("q2", "二", history=("h1", "h2")))

RESULTS = [
    None,
    True,
    3,
    -0.5,
    "text \ud800",
    (),
    [],
    {},
    {"$type": "Passage", "x": 1},
    {1: "a", ("x", 2): "b"},
    {"a": {1, 2}, "b": frozenset({"x"})},
    Filtered(passages(3), (Dropped("x", "dedup", "duplicate", score=0.95),), 0.9),
    Filtered(passages(LONG + 1)),
    Collection(
        "c", passages(LONG), {"train": Judged(QUERIES * LONG, {"q1": {"p1": 2, "p2": 0}}), "test": Judged((), {})}
    ),
    (HardNegatives("q", ("p1", "p2"), (0.5, 0.25), {"p9": 0.75}, "top_k", (0.5, 0.5)),) * LONG,
    [Document("d", "text", metadata={"a": [1, (2, 3)], "b": None})] * LONG,
    Run("bm25", {"q1": [("p2", 1.5), ("p1", 1.5)], "q2": []}, 12.5),
    TrainingExample(QUERIES[0], None, passages(2), (0.1, 0.9)),
    {"one": Judged(QUERIES, {"q1": {"p1": 1}})},
    {"mixed": (Query("q", "x"), passages(1)[0])},
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_round_trip(result: Any, tmp_path: Path) -> None:
    loaded = round_trip(result, tmp_path)
    assert loaded == result
    assert type(loaded) is type(result)
    assert content_hash(loaded) == content_hash(result)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.sampled_from(["$type", "$rows", "$tuple"]), inner, max_size=4)
        | st.dictionaries(st.integers() | st.tuples(st.text()), inner, max_size=4)
        | st.builds(lambda value: Run("r", value), st.dictionaries(st.text(), inner, max_size=3))
    ),
    max_leaves=12,
)


@given(json_like)
def test_round_trip_of_anything_plain(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    loaded = round_trip(value, tmp_path_factory.mktemp("plain"))
    assert repr(loaded) == repr(value)  # repr tells -0.0 from 0.0, True from 1 and (1,) from [1]


def test_not_a_number_and_infinity(tmp_path: Path) -> None:
    loaded = round_trip((HardNegatives("q", ("p",), (math.nan,), {"p": -math.inf}, "given"),) * LONG, tmp_path)
    assert math.isnan(loaded[7].scores[0])
    assert loaded[7].positive_scores == {"p": -math.inf}
    assert "NaN" not in (tmp_path / "rows.jsonl").read_text()


def test_numpy_scalars_become_numbers_of_equal_hash(tmp_path: Path) -> None:
    value = {"a": np.float32(0.1), "b": np.int64(3), "c": np.bool_(True)}
    loaded = round_trip(value, tmp_path)
    assert [type(loaded[key]) for key in "abc"] == [float, int, bool]
    assert content_hash(loaded) == content_hash(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6).reshape(2, 3).T,
        np.zeros((0, 4), np.float16),
        np.array(2.5),
        np.array(["文", "ab"]),
        np.array([True, False]),
    ],
)
def test_arrays(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    loaded = round_trip({"vectors": array}, tmp_path)["vectors"]
    np.testing.assert_array_equal(loaded, array)
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy", allow_pickle=False), array)


def test_classes_come_from_the_return_annotation(tmp_path: Path) -> None:
    model = tmp_path / "work" / "model"
    model.mkdir(parents=True)
    (model / "weights").write_bytes(b"123")
    (tmp_path / "work" / "checkpoint").write_bytes(b"not part of the result")
    trained = Trained(model, Inner(((1, 0.5),)), FinetuneConfig(temperature=0.1), np.ones(2), Inner(()))
    classes = result_classes(returns_trained)
    files = save_result({"en": trained}, tmp_path, classes)
    assert files == ["en.vectors.npy", "result.json", "work/model/weights"]
    loaded = load_result(tmp_path, classes)["en"]
    assert (loaded.model, loaded.inner, loaded.settings, loaded.best) == (
        trained.model, trained.inner, trained.settings, trained.best,
    )  # fmt: skip
    assert json.loads((tmp_path / "result.json").read_text())["en"]["model"] == {"$path": "work/model"}


def test_evaluation_config_keeps_its_tuples(tmp_path: Path) -> None:
    def function() -> EvaluationConfig:
        raise NotImplementedError

    config = EvaluationConfig(measures=("R@10",))
    assert round_trip(config, tmp_path, function) == config


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Unannounced(1), "returns a Unannounced must name it in its return annotation"),
        ({"a": [object()]}, r"builtins.object \(at a.0\)"),
        ((n for n in range(3)), "generator"),
        ({"a": np.array([None])}, r"Python objects \(at a\)"),
    ],
)
def test_what_cannot_be_saved_is_named(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=message):
        round_trip(value, tmp_path)


def test_a_path_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nothing is there"):
        round_trip(tmp_path / "work" / "model", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        '{"$type": "Popen", "args": ["true"]}',
        '{"$type": "Passage", "unknown": 1}',
        '{"$rows": "../secret.jsonl", "as": "$tuple"}',
        '{"$array": "/etc/passwd"}',
        '{"$what": 1}',
        '{"half": ',
        "\ufffd",
    ],
)
def test_foreign_content_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path.parent / "secret.jsonl").write_text("1\n")
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ArtifactError, match="not a readable result"):
        load_result(tmp_path, result_classes(returns_anything))


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "result.json").write_text('{"$array": "vectors.npy"}')
    with pytest.raises(ArtifactError, match="allow_pickle=False"):
        load_result(tmp_path, result_classes(returns_anything))
