"""An index that is built by processes which are killed, for test_index_faults.py:

    python index_steps.py FOLDER N SEED SALT

builds one of version 0, then starts builds of version 1 by the model SALT and kills N of them at random moments.
After each, what the folder holds is told as a line of JSON; at the end one build runs through.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hashed_words import HashedWords

from bessemer.encoders.encoder import Encoded
from bessemer.search import index_update
from bessemer.search.index_build import build_index
from bessemer.search.index_manifest import read_lexicon, read_manifest
from bessemer.search.stores.files import FilesEngine
from bessemer.search.stores.files_store import FilesStore
from bessemer.search.stores.store import Stored
from bessemer.types import Passage

N = 96
index_update.BATCH = 8


def passages(version: int) -> list[Passage]:
    """Of version 1 a third is as before, a third has another text, a third is new; a third of version 0 is gone."""
    old = [Passage(f"p{i:03}", "d", f"p{i:03} word{i % 7} of old") for i in range(N)]
    if version == 0:
        return old
    changed = [Passage(f"p{i:03}", "d", f"p{i:03} word{i % 5} of new and more") for i in range(N // 3, N + N // 3)]
    return [*old[: N // 3], *changed[: N // 3], *changed[2 * N // 3 :]]


class Told(HashedWords):
    """Writes down the first word of every text that it encodes."""

    def __init__(self, salt: str, log: Path) -> None:
        super().__init__(salt)
        self.log = log

    def encode_passages(self, texts: Sequence[str]) -> Encoded:
        tell(self.log, "encoded", [text.split()[0] for text in texts])
        return super().encode_passages(texts)


def tell(log: Path, what: str, names: Sequence[str]) -> None:
    with log.open("a") as file:
        file.write(f"{what} {' '.join(names)}\n")


def build(folder: Path, version: int, salt: str, log: Path) -> None:
    upsert = FilesStore.upsert

    def acknowledged(store: FilesStore, batch: Stored) -> None:
        upsert(store, batch)
        tell(log, "acknowledged", [passage.passage_id for passage in batch.passages])

    FilesStore.upsert = acknowledged  # type: ignore[method-assign]
    build_index(folder, passages(version), Told(salt, log), "m")


def in_child(folder: Path, salt: str, log: Path, seconds: float | None) -> bool:
    """Whether it came to its end."""
    child = os.fork()
    if child == 0:
        build(folder, 1, salt, log)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def state(folder: Path, log: Path) -> dict[str, Any]:
    """What is searched, what all generations hold, and what the builds so far have told."""
    engine = FilesEngine(folder)
    manifest = read_manifest(engine)
    told = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    held = {}
    for generation in engine.generations():
        if (folder / generation / "segments.json").exists():
            store = engine.open(generation)
            held[generation] = {p.passage_id: p.text for batch in store.all_passages() for p in batch}
    return {
        "live": manifest["generation"],
        "n_passages": manifest["n_passages"],
        "is_exact": read_lexicon(engine, manifest["generation"]).is_exact,
        "held": held,
        "acknowledged": [name for what, *names in told if what == "acknowledged" for name in names],
        "encoded": [name for what, *names in told if what == "encoded" for name in names],
    }


def main(folder: Path, n: int, seed: int, salt: str) -> None:
    rng = random.Random(seed)
    build_index(folder / "index", passages(0), HashedWords("m"), "m")
    started = time.monotonic()
    build_index(folder / "other", passages(0), HashedWords("m"), "m")
    longest = time.monotonic() - started
    for trial in range(n):
        log = folder / f"log-{trial}"
        if in_child(folder / "index", salt, log, rng.uniform(0.1, 1.0) * longest / (1 + n / 4)):
            break
        print(json.dumps(state(folder / "index", log)), flush=True)
    log = folder / "log-end"
    assert in_child(folder / "index", salt, log, None)
    print(json.dumps(state(folder / "index", log)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
