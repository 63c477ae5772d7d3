"""Conditions on metadata, as people write them and as passages meet them."""

from __future__ import annotations

import pytest

from bessemer.errors import ConfigError
from bessemer.search.stores.filters import matches, parse_where
from bessemer.search.stores.store import Condition
from bessemer.types import Passage

PASSAGE = Passage(
    "p",
    "d1",
    "text",
    metadata={
        "source": "handbook.md",
        "year": 2021,
        "share": 0.5,
        "open": True,
        "version": "2",
        "tags": ["a"],
    },
)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("source=handbook.md", True), ("source = handbook.md ", True), ("source=other.md", False),
        ("source!=other.md", True), ("source!=handbook.md", False), ("source>=a", True), ("source<a", False),
        ("year=2021", True), ("year>=2020", True), ("year>2021", False), ("year<=2021.0", True), ("year!=2021", False),
        ("share<1", True), ("share=.5", True), ("share=5e-1", True),
        ("open=true", True), ("open=false", False), ("open!=false", True), ("open=1", False), ("open>=0", False),
        ("version=2", True), ("version>=1", False), ("doc_id=d1", True), ("doc_id!=d1", False),
        ("tags=a", False), ("tags!=a", True), ("missing=1", False), ("missing!=1", True), ("missing>=1", False),
    ],
)  # fmt: skip
def test_one_condition(text: str, met: bool) -> None:
    assert matches(PASSAGE, parse_where([text])) == met


def test_of_one_field_any_of_several_all_must_hold() -> None:
    assert parse_where(["source=a=b", "year=2020", "source=c"]) == (
        Condition("source", "=", ("a=b", "c")),
        Condition("year", "=", (2020, "2020")),
    )
    assert matches(PASSAGE, parse_where(["year=2020", "year=2021", "open=true"]))
    assert not matches(PASSAGE, parse_where(["year>=2020", "year<2021"]))
    assert matches(PASSAGE, ())


@pytest.mark.parametrize("text", ["", "source", "=a", "source=", "source= ", ">=3", "a==", "source!"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--where"):
        parse_where([text])
