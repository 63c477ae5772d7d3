from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from bessemer.errors import ArtifactError
from bessemer.search.stores.chunked_contents import CHUNK, read_contents, remove_contents, write_contents


class InMemory:
    """Records that stop answering after so many writes."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.writes_left = 1 << 30

    def put(self, records: Mapping[str, str]) -> None:
        for key, text in records.items():
            self.writes_left -= 1
            if self.writes_left < 0:
                raise ConnectionError("gone")
            self.kept[key] = text

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        return {key: self.kept[key] for key in keys if key in self.kept}

    def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.kept.pop(key, None)


OLD, NEW = b"old" * CHUNK, bytes(range(256)) * 1000


@pytest.mark.parametrize("writes", range(8))
def test_a_writer_that_dies_leaves_the_old_content_or_the_new(writes: int) -> None:
    records = InMemory()
    write_contents(records, {"fact": OLD})
    records.writes_left = writes  # the new content has 6 chunks and a pointer
    if writes < 7:
        with pytest.raises(ConnectionError):
            write_contents(records, {"fact": NEW})
    else:
        write_contents(records, {"fact": NEW})
    assert read_contents(records, ["fact"], "here") == {"fact": OLD if writes < 7 else NEW}


def test_old_chunks_go() -> None:
    records = InMemory()
    write_contents(records, {"fact": OLD, "other": b""})
    write_contents(records, {"fact": NEW})
    assert len(records.kept) == 6 + 1 + 1
    remove_contents(records, ["fact", "other", "nobody"])
    assert records.kept == {}


def test_what_is_missing_or_damaged() -> None:
    records = InMemory()
    assert read_contents(records, ["fact"], "here") == {}
    write_contents(records, {"fact": NEW})
    del records.kept[next(key for key in records.kept if key.endswith("/3"))]
    with pytest.raises(ArtifactError, match="chunks of fact are missing"):
        read_contents(records, ["fact"], "here")


def test_no_record_is_longer_than_servers_take() -> None:
    records = InMemory()
    write_contents(records, {"fact": OLD})
    assert max(map(len, records.kept.values())) <= 65_535
