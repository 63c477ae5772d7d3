"""Builds that are killed, disks that are full, folders that cannot be written to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hashed_words import HashedWords
from index_steps import passages

from bessemer.search.index import open_index
from bessemer.search.index_build import build_index
from bessemer.search.stores.segment import Files, Segment

STEPS = Path(__file__).with_name("index_steps.py")


def run(*arguments: str | Path) -> str:
    process = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def check_kills(folder: Path, n_kills: int, salt: str) -> int:
    """``salt`` "m": the generation that is searched is changed; another: a second one is built."""
    before = {p.passage_id: p.text for p in passages(0)}
    wanted = {p.passage_id: p.text for p in passages(1)}
    lines = [json.loads(line) for line in run(STEPS, folder, str(n_kills), "1", salt).splitlines()]
    *trials, end = lines
    acknowledged: set[str] = set()
    for trial in trials:
        assert not acknowledged & set(trial["encoded"])  # once is enough
        acknowledged |= set(trial["acknowledged"])
        held = trial["held"]
        live = held[trial["live"]]
        if salt == "m":  # every passage is the old one or the new one
            assert all(text in (before.get(key), wanted.get(key)) for key, text in live.items())
            assert live.keys() >= before.keys() & wanted.keys()
            changed = live
        elif trial["n_passages"] == len(before):
            assert live == before
            assert trial["is_exact"]
            changed = {key: text for other in held.keys() - {trial["live"]} for key, text in held[other].items()}
        else:  # switched, and killed while tidying up
            assert live == wanted
            changed = live
        assert {key: changed.get(key) for key in acknowledged} == {key: wanted[key] for key in acknowledged}
    assert not acknowledged & set(end["encoded"])
    assert end["held"][end["live"]] == wanted
    assert end["is_exact"]
    build_index(folder / "fresh", passages(1), HashedWords(salt), "m")
    opened, fresh = open_index(folder / "index", HashedWords(salt)), open_index(folder / "fresh", HashedWords(salt))
    for query in ("p030 word3", "new and more", "old"):
        mine, theirs = opened.search(query), fresh.search(query)
        assert [hit["passage_id"] for hit in mine] == [hit["passage_id"] for hit in theirs]
        for one, other in zip(mine, theirs, strict=True):
            if "bm25" in other["lanes"]:  # the mean length may be up to 5% off
                assert one["lanes"]["bm25"]["score"] == pytest.approx(other["lanes"]["bm25"]["score"], rel=0.05)
    return len(trials)


@pytest.mark.parametrize("salt", ["m", "another model"])
def test_killed_at_random_moments(tmp_path: Path, salt: str) -> None:
    assert check_kills(tmp_path, 3, salt) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("salt", ["m", "another model"])
def test_killed_twenty_times(tmp_path: Path, salt: str) -> None:
    assert check_kills(tmp_path, 20, salt) >= 10


def test_a_build_killed_in_its_first_segment_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing names a file of this generation yet."""

    def killed(folder: Path, segment: Segment) -> Files:
        folder.mkdir()
        (folder / "passages.jsonl").write_text("half a line", encoding="utf-8")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("bessemer.search.stores.files_store.write_segment", killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(tmp_path / "index", passages(0), HashedWords("m"), "m")
    assert build_index(tmp_path / "index", passages(0), HashedWords("m"), "m").n_passages == len(passages(0))


FILL = """
    import resource, signal, sys
    from index_steps import passages
    from hashed_words import HashedWords
    from bessemer.errors import ConfigError
    from bessemer.search.index_build import build_index

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
    for salt in ("m", "other"):
        try:
            build_index(sys.argv[1], passages(1), HashedWords(salt), "m")
        except ConfigError as error:
            print(error)
"""


def test_files_may_not_grow(tmp_path: Path) -> None:
    """The portable stand-in for a full disk."""
    build_index(tmp_path / "index", passages(0), HashedWords("m"), "m")
    script = tmp_path / "fill.py"
    script.write_text(f"import sys; sys.path[:0] = [{str(STEPS.parent)!r}]\nif True:{FILL}")
    errors = run(script, tmp_path / "index").splitlines()
    assert len(errors) == 2
    for error in errors:
        assert "cannot be written" in error
        assert "free space" in error
    opened = open_index(tmp_path / "index", HashedWords("m"))
    assert opened.search("p050 old")[0]["text"] == "p050 word1 of old"
    assert build_index(tmp_path / "index", passages(1), HashedWords("m"), "m").n_passages == len(passages(1))


def test_unwritable_folder(tmp_path: Path) -> None:
    """As a user without rights: root may write everywhere, so its process gives its rights away."""
    script = f"""if True:
        import os, sys
        sys.path[:0] = [{str(STEPS.parent)!r}]
        from index_steps import passages
        from hashed_words import HashedWords
        from bessemer.errors import ConfigError
        from bessemer.search.index_build import build_index
        from bessemer.search.stores.files import FilesEngine
        os.chdir(sys.argv[1])
        FilesEngine("index").open(sys.argv[2])  # loads what Python loads late, from folders that others may not read
        if os.geteuid() == 0:
            os.setgid(65534), os.setuid(65534)
        try:
            build_index("index", passages(1), HashedWords("m"), "m")
        except ConfigError as error:
            print(error)
        print(FilesEngine("index").open(sys.argv[2]).count())
    """
    build_index(tmp_path / "index", passages(0), HashedWords("m"), "m")
    [generation] = (path.name for path in (tmp_path / "index").glob("generation-*"))
    for path in (*tmp_path.rglob("*"), tmp_path):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in tmp_path.parents[:2]:
        os.chmod(parent, 0o755)
    error, count = run("-c", script, tmp_path, generation).splitlines()
    assert error == "index: cannot be written (Permission denied); choose another folder"
    assert int(count) == len(passages(0))
