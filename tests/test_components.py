"""What hangs together by shared members, by hand."""

from __future__ import annotations

from bessemer.components import components


def test_a_chain_is_one_component_and_they_are_numbered_as_they_come() -> None:
    assert components(["x", "ab", "", "bc", "y", "cd", "xy"]).tolist() == [0, 1, 2, 1, 0, 1, 0]


def test_items_without_members_stand_alone() -> None:
    assert components([(), ()]).tolist() == [0, 1]
    assert components([]).tolist() == []
