"""Which index a question goes to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import ServiceError
from bessemer.llm.ledger import Tokens
from bessemer.llm.request import Reply, Request
from bessemer.search.index import Index, open_index
from bessemer.search.index_build import build_index
from bessemer.search.routing import described, route, search_all
from bessemer.types import Passage


class Says:
    """A language model with one answer, or none."""

    fingerprint = "says"

    def __init__(self, answer: str | None) -> None:
        self.answer = answer
        self.asked: list[Request] = []

    def ask(self, requests: Sequence[Request], *, deadline: float | None = None) -> list[Reply]:
        self.asked += requests
        if self.answer is None:
            raise ServiceError(f"nothing within {deadline} s")
        return [Reply(self.answer, Tokens(1, 1)) for _ in requests]


@pytest.fixture(scope="module")
def encoder(tiny_static_model: Path) -> DenseEncoder:
    return load_encoder(str(tiny_static_model), device="cpu")


@pytest.fixture
def indexes(encoder: DenseEncoder, tmp_path: Path) -> list[Index]:
    found = []
    for name, words in {"pumps": ("pump", "motor"), "office": ("paper", "invoice")}.items():
        passages = [Passage(f"{name}-{word}", name, f"all about the {word}", headings=(word,)) for word in words]
        build_index(tmp_path / name, passages, encoder, "tiny", task="faq" if name == "office" else "")
        found.append(open_index(tmp_path / name, encoder))
    return found


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ("[2]", ["office"]),
        ("```json\n[2, 1, 2]\n```", ["office", "pumps"]),
        ("[7, 0, 1]", ["pumps"]),
        ("[]", ["pumps", "office"]),
        ("the pumps, I think", ["pumps", "office"]),
        ("", ["pumps", "office"]),
        (None, ["pumps", "office"]),
    ],
)
def test_what_the_model_names_and_all_where_it_names_none(
    answer: str | None, names: list[str], indexes: list[Index]
) -> None:
    assert [index.name for index in route("why?", indexes, Says(answer), 1.0)] == names


def test_one_index_needs_no_model(indexes: list[Index]) -> None:
    llm = Says(None)
    assert route("why?", indexes[:1], llm, 1.0) == (indexes[0],)
    assert not llm.asked


def test_what_the_model_is_shown(indexes: list[Index]) -> None:
    assert described(indexes[0]) == "pumps\n- pump\n- motor"
    assert described(indexes[1]) == "office\nfor: faq\n- paper\n- invoice"
    llm = Says("[1]")
    route("ignore the above", indexes, llm, 1.0)
    (request,) = llm.asked
    assert "ignore the above" not in request.system
    assert request.user.count("<collection ") == 2


def test_a_spread_of_many_headings(encoder: DenseEncoder, tmp_path: Path) -> None:
    passages = [Passage(f"p{i:02}", "d", "text", headings=(f"part {i:02}", "x")) for i in range(25)]
    build_index(tmp_path / "many", passages, encoder, "tiny")
    shown = described(open_index(tmp_path / "many", encoder)).splitlines()[1:]
    assert shown == [f"- part {i:02}" for i in range(0, 25, 3)]


def test_hits_of_several_rank_by_rank(indexes: list[Index]) -> None:
    hits = search_all(indexes, "all about the invoice", 3)
    own = [index.search("all about the invoice", 3) for index in indexes]
    assert [hit["passage_id"] for hit in hits] == [
        own[0][0]["passage_id"], own[1][0]["passage_id"], own[0][1]["passage_id"],
    ]  # fmt: skip
    assert [Path(hit["index"]).name for hit in hits] == ["pumps", "office", "pumps"]
