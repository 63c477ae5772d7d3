from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from bessemer.errors import ConfigError, Problem
from bessemer.formats import lines
from bessemer.formats.lines import Fields, hash_id, read_jsonl, read_lines, write_jsonl


def read(path: Path) -> tuple[list[tuple[int, dict]], list[str]]:
    problems: list[Problem] = []
    rows = list(read_jsonl(path, problems))
    return rows, [str(problem) for problem in problems]


def test_bom_crlf_and_blank_lines_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n{"b": "\xe4\xbd\xa0"}')
    assert read(path) == ([(1, {"a": 1}), (4, {"b": "你"})], [])


def test_line_separators_inside_a_string_do_not_end_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "x\u2028y\x85z"}\n', encoding="utf-8")
    assert read(path)[0] == [(1, {"a": "x\u2028y\x85z"})]


def test_every_bad_line_is_named_and_good_ones_still_come(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"a": 1}\n{"a": \n["x"]\n{"a": "\xff"}\n{"a": "\\ud800"}\n' + b"[" * 100_000 + b"\n" + b'{"a": 2}\n'
    )
    rows, problems = read(path)
    assert rows == [(1, {"a": 1}), (7, {"a": 2})]
    assert problems == [
        f"{path}:2:-: not valid JSON: Expecting value at column 7; write one JSON object per line",
        f"{path}:3:-: line holds a list, not an object; write one JSON object per line",
        f"{path}:4:-: byte 0xff at position 8 is not UTF-8; save the file as UTF-8",
        f"{path}:5:-: half a surrogate pair; write the whole character",
        f"{path}:6:-: JSON is nested or long beyond reason; write one JSON object per line",
    ]


def test_numbers_that_json_has_not_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"a": 1e3, "b": [null, {"c": 2.5}]}\n{"a": NaN}\n{"b": [0, {"c": -Infinity, "d": NaN}]}\n{"a": [1e999]}'
    )
    rows, problems = read(path)
    assert rows == [(1, {"a": 1000.0, "b": [None, {"c": 2.5}]})]
    assert problems == [
        f"{path}:{line}:{field}: is NaN or beyond all numbers; give a number or null"
        for line, field in ((2, "a"), (3, "b[1].c"), (4, "a[0]"))
    ]


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": "\\ud83d\\ude00"}\n')
    assert read(path) == ([(1, {"a": "😀"})], [])


def test_a_json_array_and_utf16_are_one_problem_each(tmp_path: Path) -> None:
    array, utf16 = tmp_path / "a.json", tmp_path / "b.jsonl"
    array.write_text('[\n {"a": 1},\n {"a": 2}\n]')
    utf16.write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-16")
    assert read(array) == ([], [f"{array}:1:-: file is one JSON array; write one JSON object per line"])
    assert read(utf16) == ([], [f"{utf16}:1:-: file is UTF-16; save it as UTF-8"])


def test_an_over_long_line_is_skipped_in_bounded_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 32)
    path = tmp_path / "a.txt"
    path.write_text("x" * 32 + "\n" + "y" * 31 + "\n" + "z" * 200 + "\nend\n")
    problems: list[Problem] = []
    assert list(read_lines(path, problems)) == [(2, "y" * 31), (4, "end")]
    assert [problem.line for problem in problems] == [1, 3]
    assert "longer than" in problems[0].message


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    rows, problems = read(tmp_path / "no.jsonl")
    assert rows == []
    assert problems == [f"{tmp_path / 'no.jsonl'}:-:-: cannot be read (No such file or directory); check the path"]


def test_fields_never_turn_one_type_into_another() -> None:
    problems: list[Problem] = []
    values = {
        "text": None,
        "n": 5,
        "pos": "abc",
        "mixed": ["a", None],
        "scores": [1, "2"],
        "nan": [float("nan"), 10**400],
    }
    fields = Fields("f", 3, values, problems)
    assert fields.text("text") is None
    assert fields.text("n") is None
    assert fields.text("gone", optional=True) == ""
    assert fields.texts("pos") is None
    assert fields.texts("mixed") is None
    assert fields.numbers("scores") is None
    assert fields.numbers("nan") is None
    assert fields.identifier("n") == "5"
    assert [str(problem) for problem in problems] == [
        'f:3:text: is null, not a string; give "text": "..."',
        'f:3:n: is a number, not a string; give "n": "..."',
        'f:3:pos: is a string where a list of strings belongs; write "pos": [...]',
        "f:3:mixed[1]: is null, not a string; give a list of strings",
        "f:3:scores[1]: is a string, not a finite number; give a list of numbers",
        "f:3:nan[0]: is nan, not a finite number; give a list of numbers",
        "f:3:nan[1]: is a number, not a finite number; give a list of numbers",
    ]


def test_hash_id_is_the_start_of_sha256() -> None:
    assert hash_id("abc") == "ba7816bf8f01cfea"  # FIPS 180-2, appendix B.1
    assert hash_id("你") == hashlib.sha256("你".encode()).hexdigest()[:16]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out" / "a.jsonl"
    write_jsonl(path, [{"a": "旧"}])
    with pytest.raises(TypeError):
        write_jsonl(path, [{"a": "new"}, {"a": object()}])
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [{"a": "旧"}]
    assert list(path.parent.iterdir()) == [path]


def test_an_unwritable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"a\.jsonl: cannot be written .*check the output folder"):
        write_jsonl(tmp_path / "file" / "a.jsonl", [])


def test_a_full_disk_is_a_clear_error_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"a": 1}])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        write_jsonl(path, [{"a": 2}])
    assert path.read_text() == '{"a": 1}\n'
    assert list(tmp_path.iterdir()) == [path]
