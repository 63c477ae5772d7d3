"""One writer at a time where there is no file to lock: a record that says who writes, and until when.

Servers of vectors have no compare-and-swap. So a writer writes its own name, waits a moment in which another may do the
same, and holds the lease only if its own name is what stays. Two writers that begin within that moment: the later one
wins, the earlier one reads another's name. The clocks of the machines are taken to agree to within seconds.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bessemer.errors import ConfigError, ServiceError
from bessemer.search.stores.chunked_contents import Records

SECONDS = 60.0
SETTLING = 0.5
KEY = "lease"


@contextmanager
def lease(records: Records, location: str, seconds: float = SECONDS, settling: float = SETTLING) -> Iterator[None]:
    """Held while inside, and renewed three times in ``seconds``; one that was not renewed is taken over. Raises
    ConfigError that names the holder; ServiceError at the end if another writer took it over meanwhile."""
    token = secrets.token_hex(16)
    _refuse(_holder(records), location, token)
    _write(records, token, seconds)
    time.sleep(settling)
    _refuse(_holder(records), location, token)
    done = threading.Event()
    keeper = threading.Thread(target=_keep, args=(records, token, seconds, done), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()
        is_ours = _is(_holder(records), token)
        if is_ours:
            records.remove([KEY])
    if not is_ours:
        raise ServiceError(f"{location}: another process took the index over while this one wrote; index again")


def _keep(records: Records, token: str, seconds: float, done: threading.Event) -> None:
    while not done.wait(seconds / 3):
        try:
            if not _is(_holder(records), token):
                return
            _write(records, token, seconds)
        except Exception:  # the server may be back before the lease expires; if not, the writer's own calls fail
            continue


def _holder(records: Records) -> dict[str, Any] | None:
    text = records.get([KEY]).get(KEY)
    return None if text is None else json.loads(text)


def _is(holder: dict[str, Any] | None, token: str) -> bool:
    return holder is not None and holder["token"] == token


def _write(records: Records, token: str, seconds: float) -> None:
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": token, "expires": time.time() + seconds}
    records.put({KEY: json.dumps(holder)})


def _refuse(holder: dict[str, Any] | None, location: str, token: str) -> None:
    if holder is not None and holder["token"] != token and holder["expires"] > time.time():
        left = holder["expires"] - time.time()
        raise ConfigError(
            f"{location}: the process {holder['pid']} on {holder['host']} is building this index; wait for it (if it "
            f"is gone, its claim ends in {left:.0f} seconds)"
        )
