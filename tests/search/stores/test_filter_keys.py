from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from bessemer.search.stores.filter_keys import equal_key, field_key, filter_keys, text_key
from bessemer.search.stores.milvus_rows import expression
from bessemer.search.stores.store import Condition
from bessemer.types import Passage

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, texts)
def test_text_keys_stand_in_the_order_of_the_texts(a: str, b: str) -> None:
    assert (text_key(a) < text_key(b)) == (a < b)


def test_equal_values_have_one_key_and_other_kinds_another() -> None:
    assert equal_key("f", 1) == equal_key("f", 1.0)
    assert len({equal_key("f", 1), equal_key("f", True), equal_key("f", "1"), equal_key("g", 1)}) == 4
    assert equal_key("f", 2**53) != equal_key("f", 2**53 + 1)


def test_keys_of_a_passage() -> None:
    metadata = {"year": 2020, "open": True, "lang": "zh", "tags": ["a"], "none": None, "doc_id": "not this"}
    keys = filter_keys(Passage("p", "d", "t", metadata=metadata))
    assert keys.numbers == {field_key("year"): 2020.0}
    assert keys.texts == {field_key("lang"): text_key("zh"), field_key("doc_id"): text_key("d")}
    assert set(keys.equal) == {
        equal_key("year", 2020), equal_key("open", True), equal_key("lang", "zh"), equal_key("doc_id", "d"),
    }  # fmt: skip


values = st.one_of(texts, st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False), st.booleans())


@given(texts, st.sampled_from(["=", "!=", "<", ">="]), st.lists(values, min_size=1, max_size=2).map(tuple))
def test_nothing_of_the_user_stands_in_an_expression(field: str, operator: str, chosen: tuple[object, ...]) -> None:
    written = expression([Condition(field, operator, chosen)])  # type: ignore[arg-type]
    grammar = r'array_contains_any\(equal, \[("([0-9a-f]{32}|-)"(, )?)+\]\)|ordered\["[nt]f[0-9a-f]*"\]'
    rest = re.sub(rf'{grammar}|"[0-9a-f]*"|-?\d+(\.\d+)?(e[+-]\d+)?', "", written)
    assert re.fullmatch(r"(\(|\)|not| or | (<|>=) | )*", rest), rest
