from __future__ import annotations

import json
import os
import socket
import time

import pytest
from test_chunked_contents import InMemory

from bessemer.errors import ConfigError, ServiceError
from bessemer.search.stores.lease import KEY, lease


def test_the_second_is_told_who_holds_it() -> None:
    records = InMemory()
    with lease(records, "here", settling=0):
        held = pytest.raises(ConfigError, match=f"process {os.getpid()} on {socket.gethostname()}")
        with held, lease(records, "here", settling=0):
            pass
        assert KEY in records.kept
    assert records.kept == {}


def test_it_is_renewed_while_held() -> None:
    records = InMemory()
    with lease(records, "here", seconds=0.3, settling=0):
        first = json.loads(records.kept[KEY])["expires"]
        for _ in range(200):
            time.sleep(0.02)
            if json.loads(records.kept[KEY])["expires"] > first + 0.3:
                break
        else:
            raise AssertionError("was not renewed")


def test_one_that_expired_is_taken_over() -> None:
    records = InMemory()
    records.kept[KEY] = json.dumps({"host": "h", "pid": 1, "token": "gone", "expires": time.time() - 1})
    with lease(records, "here", settling=0):
        assert json.loads(records.kept[KEY])["pid"] == os.getpid()


def test_whoever_lost_it_hears_of_it_and_takes_nothing_away() -> None:
    records = InMemory()
    other = json.dumps({"host": "h", "pid": 1, "token": "other", "expires": time.time() + 60})
    with pytest.raises(ServiceError, match="took the index over"), lease(records, "here", settling=0):
        records.kept[KEY] = other
    assert records.kept[KEY] == other


def test_of_two_at_the_same_moment_the_earlier_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    records = InMemory()
    other = json.dumps({"host": "h", "pid": 1, "token": "other", "expires": time.time() + 60})
    monkeypatch.setattr(time, "sleep", lambda seconds: records.put({KEY: other}))
    with pytest.raises(ConfigError, match="process 1 on h"), lease(records, "here"):
        raise AssertionError("held by two")
    assert records.kept[KEY] == other
