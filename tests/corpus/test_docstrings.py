from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bessemer.corpus.docstrings import MAX_BODY_WORDS, MIN_BODY_WORDS, docstring_pairs

BODY = " ".join(f"body{i}" for i in range(MIN_BODY_WORDS))


def function(name: str, summary: str, body: str = BODY, indent: str = "") -> str:
    return f'{indent}def {name}():\n{indent}    """{summary}\n\n{indent}    {body} {name}\n{indent}    """\n\n'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "steelworks"
    folder.mkdir()
    (folder / "__init__.py").write_text('raise RuntimeError("parsed, never imported")\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def ids(package: Path) -> list[str]:
    del package  # the fixture only has to be there
    return [pair.query.query_id for pair in docstring_pairs(("steelworks",)).kept]


def reasons() -> dict[str, str]:
    return {item.id: item.reason for item in docstring_pairs(("steelworks",)).dropped}


def test_a_pair_is_the_summary_and_the_rest(package: Path) -> None:
    (package / "furnace.py").write_text(
        'def blow(air):\n    """Blow the air\n    through molten pig iron.\n\n'
        f'    {BODY}\n\n        indented\n    last.\n    """\n'
    )
    (pair,) = docstring_pairs(("steelworks",)).kept
    assert pair.module == "steelworks.furnace"
    assert (pair.query.query_id, pair.query.text) == (
        "steelworks.furnace.blow",
        "Blow the air through molten pig iron.",
    )
    assert pair.passage.passage_id == "steelworks.furnace.blow"
    assert pair.passage.doc_id == "steelworks.furnace"
    assert pair.passage.text == pair.passage.indexed_text == f"{BODY}\n\n    indented\nlast."
    assert (pair.passage.start, pair.passage.end) == (0, len(pair.passage.text))


def test_public_functions_classes_and_methods_of_public_modules(package: Path) -> None:
    source = (
        function("melt", "Melt the ore in a furnace.")
        + function("_secret", "Nobody is to see this one.")
        + f'class Ladle:\n    """A ladle that holds the steel.\n\n    {BODY} ladle\n    """\n\n'
        + function("pour", "Pour the steel into a mould.", indent="    ")
        + function("_tilt", "Tilt the ladle by some degrees.", indent="    ")
        + "class _Hidden:\n"
        + function("shown", "A method of a hidden class.", indent="    ")
    )
    (package / "works.py").write_text(source)
    for hidden in ("tests", "_vendor"):
        (package / hidden).mkdir()
        (package / hidden / "works.py").write_text(function("melt", f"Melt the ore in {hidden} again."))
    (package / "test_works.py").write_text(function("melt", "Melt the ore in a test."))
    assert ids(package) == ["steelworks.works.melt", "steelworks.works.Ladle", "steelworks.works.Ladle.pour"]
    assert [pair.passage.doc_id for pair in docstring_pairs(("steelworks",)).kept] == [
        "steelworks.works",
        "steelworks.works.Ladle",
        "steelworks.works.Ladle",
    ]


def test_unfit_and_ambiguous_docstrings_are_dropped_with_a_reason(package: Path) -> None:
    (package / "a.py").write_text(
        function("kept", "Five words are just enough.")
        + function("longest", "The longest body that is kept.", "word " * (MAX_BODY_WORDS - 1))
        + function("short", "Four are too few.")
        + function("long", "word " * 41)
        + function("bare", "The body is too short.", "word " * (MIN_BODY_WORDS - 2))
        + function("wordy", "The body is too long.", "word " * MAX_BODY_WORDS)
        + function("one", "The same summary stands twice.")
        + function("two", "the  same summary stands TWICE.")
        + function("kept", "The second definition of a name.")
        + 'def none():\n    """One line has no body at all."""\n'
    )
    (package / "b.py").write_text(
        f'def x():\n    """The first of the two equal bodies.\n\n    {BODY} same\n    """\n\n'
        f'def y():\n    """The second of the two equal bodies.\n\n    {BODY}  SAME\n    """\n'
    )
    assert ids(package) == ["steelworks.a.kept", "steelworks.a.longest"]
    summary, body = "summary outside 5 to 40 words", f"body outside {MIN_BODY_WORDS} to {MAX_BODY_WORDS} words"
    assert reasons() == {
        "steelworks.a.short": summary,
        "steelworks.a.long": summary,
        "steelworks.a.bare": body,
        "steelworks.a.wordy": body,
        "steelworks.a.none": body,
        "steelworks.a.one": "summary not unique",
        "steelworks.a.two": "summary not unique",
        "steelworks.a.kept": "defined twice",
        "steelworks.b.x": "body not unique",
        "steelworks.b.y": "body not unique",
    }


def test_files_that_are_no_python_are_passed_over(package: Path) -> None:
    (package / "a.py").write_text("def {{ template }}:")
    (package / "b.py").write_bytes(b'"""\xff\xfe"""')
    (package / "c.py").write_bytes(b"x = 1\0")
    (package / "d.py").write_text(function("fine", "This file can be read well."))
    assert ids(package) == ["steelworks.d.fine"]


def test_escapes_in_foreign_source_warn_nobody(package: Path) -> None:
    (package / "a.py").write_text('PATTERN = "\\d"\n' + function("fine", "This file has an odd escape."))
    command = "from bessemer.corpus.docstrings import docstring_pairs as d; print(len(d(('steelworks',)).kept))"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", f"import sys; sys.path.insert(0, {str(package.parent)!r}); {command}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "1"
    assert "steelworks" not in done.stderr
    assert "escape" not in done.stderr


def test_an_absent_package_has_no_pairs() -> None:
    assert docstring_pairs(("no_such_package_here",)).kept == ()


def test_real_docstrings_are_many_distinct_and_in_a_stable_order() -> None:
    pairs = docstring_pairs(("numpy",))
    assert len(pairs.kept) > 150
    assert pairs == docstring_pairs(("numpy",))
    for values in (
        [pair.query.query_id for pair in pairs.kept],
        [pair.query.text.casefold() for pair in pairs.kept],
        [pair.passage.text for pair in pairs.kept],
    ):
        assert len(set(values)) == len(values)
