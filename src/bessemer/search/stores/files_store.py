"""One generation of the exact engine."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from bessemer.encoders.encoder import Encoded
from bessemer.encoders.token_vectors import TokenVectors
from bessemer.errors import ConfigError
from bessemer.search.encoded_texts import join_texts, texts_of
from bessemer.search.stores.check import check_stored
from bessemer.search.stores.live_rows import LiveRows
from bessemer.search.stores.segment import (
    Rows,
    Segment,
    in_terms,
    joined_segments,
    mapped,
    segment_of,
    write_bm25,
    write_segment,
)
from bessemer.search.stores.segment_list import Listed, SegmentList, read_list, write_list
from bessemer.search.stores.store import Filter, Layout, SparseLane, Stored
from bessemer.search.stores.writing import writing
from bessemer.types import Hits, Passage

MERGED = 8
"""So many segments of one size class become one; each class is so many times the one before."""


class FilesStore:
    """See `bessemer.search.stores.store.VectorStore`. Writers hold the engine's lock; others see what was there when
    they opened, whatever is written meanwhile."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._list = read_list(folder)
        self.layout = self._list.layout
        self._place: dict[str, tuple[str, int]] = {}  # of every live passage the segment's name and the row
        self._rows: LiveRows | None = None
        for name, listed in self._list.segments.items():
            self._place |= _places(name, listed)

    def upsert(self, batch: Stored) -> None:
        check_stored(batch, self.layout)
        if not batch.passages:
            return
        with self._changing() as changed:
            self._kill(changed, [passage.passage_id for passage in batch.passages])
            self._add(changed, segment_of(batch))
            self._merge(changed)

    def delete(self, passage_ids: Sequence[str]) -> None:
        known = [passage_id for passage_id in passage_ids if passage_id in self._place]
        if known:
            with self._changing() as changed:
                self._kill(changed, known)
                self._merge(changed)

    def rewrite_bm25(self, passage_ids: Sequence[str], weights: sp.csr_array) -> None:
        given = in_terms(weights)
        with self._changing() as changed:
            for name, (places, rows) in self._by_segment(passage_ids).items():
                listed = changed.segments[name]
                bm25 = _replaced(listed.segment.bm25, rows, given[places].tocsr())
                file = f"bm25-{changed.next_serial()}.npz"
                files = {key: stamp for key, stamp in listed.files.items() if key != listed.bm25}
                files[file] = write_bm25(self._folder / name, file, bm25)
                segment = replace(listed.segment, bm25=bm25)
                changed.segments[name] = replace(listed, files=files, segment=segment, bm25=file)

    def search_dense(self, queries: NDArray[np.float32], top_k: int, where: Filter = ()) -> list[Hits]:
        return self._live(where).search_dense(queries, top_k)

    def search_sparse(self, lane: SparseLane, queries: sp.csr_array, top_k: int, where: Filter = ()) -> list[Hits]:
        rows = self._live(where)
        return rows.search_bm25(queries, top_k) if lane == "bm25" else rows.search_sparse(queries, top_k)

    def search_multi_vector(self, queries: TokenVectors, top_k: int, where: Filter = ()) -> list[Hits]:
        if self.layout.token_dimension is None:
            raise ConfigError(f"{self._folder}: holds no multi-vectors; index with a unified model")
        return self._live(where).search_multi_vector(queries, top_k)

    def token_vectors(self, passage_ids: Sequence[str]) -> TokenVectors:
        vectors = self._gathered(passage_ids, lambda segment: Encoded(multi_vector=segment.encoded.multi_vector))
        if vectors.multi_vector is None:
            raise ConfigError(f"{self._folder}: holds no multi-vectors; index with a unified model")
        return vectors.multi_vector

    def passages(self, passage_ids: Sequence[str]) -> list[Passage]:
        places = [self._place[passage_id] for passage_id in passage_ids]
        return [self._list.segments[name].segment.passage(row) for name, row in places]

    def all_passages(self, batch_size: int = 1024) -> Iterator[list[Passage]]:
        passage_ids = list(self._place)
        for start in range(0, len(passage_ids), batch_size):
            yield self.passages(passage_ids[start : start + batch_size])

    def vectors(self, passage_ids: Sequence[str]) -> Encoded:
        return self._gathered(passage_ids, lambda segment: segment.encoded)

    def text_hashes(self) -> Mapping[str, str]:
        segments = self._list.segments
        return {key: segments[name].segment.text_hashes[row] for key, (name, row) in self._place.items()}

    def count(self, where: Filter = ()) -> int:
        return len(self._live(where).passage_ids) if where else len(self._place)

    def stats(self) -> Mapping[str, Any]:
        segments = self._list.segments.values()
        dead = sum(len(listed.dead) - listed.n_live for listed in segments)
        size = sum(listed.bytes for listed in segments)
        return {"passages": len(self._place), "bytes": size, "segments": len(segments), "dead": dead}

    def snapshot(self, folder: Path) -> None:
        """An index folder with this generation alone: ``FilesEngine(folder).open(...)`` opens it."""
        if folder.exists():
            raise ConfigError(f"{folder}: is there already; choose a new folder for the snapshot")
        with writing(folder):
            shutil.copytree(self._folder, folder / self._folder.name)

    def close(self) -> None:
        """Nothing is held open."""

    def _live(self, where: Filter) -> LiveRows:
        if self._rows is None:
            self._rows = LiveRows([(listed.segment, listed.live) for listed in self._list.segments.values()])
        return self._rows.where(where)

    def _gathered(self, passage_ids: Sequence[str], part: Callable[[Segment], Encoded]) -> Encoded:
        """In the order given. Raises KeyError for a passage that is not there."""
        found, order = [], [np.zeros(0, dtype=np.int64)]
        for name, (places, rows) in self._by_segment(passage_ids).items():
            found.append(texts_of(part(self._list.segments[name].segment), rows))
            order.append(places)
        if not found:
            return _no_vectors(self.layout)
        return texts_of(join_texts(found), np.argsort(np.concatenate(order)))

    def _by_segment(self, passage_ids: Sequence[str]) -> dict[str, tuple[Rows, Rows]]:
        """name -> which of ``passage_ids`` it holds, and in which rows."""
        pairs: dict[str, list[tuple[int, int]]] = {}
        for place, passage_id in enumerate(passage_ids):
            name, row = self._place[passage_id]
            pairs.setdefault(name, []).append((place, row))
        arrays = {name: np.array(some, dtype=np.int64) for name, some in pairs.items()}
        return {name: (both[:, 0], both[:, 1]) for name, both in arrays.items()}

    @contextmanager
    def _changing(self) -> Iterator[SegmentList]:
        """The list to be changed; it takes effect as a whole, or not at all."""
        before = self._list
        changed = replace(before, segments=dict(before.segments))
        try:
            with writing(self._folder):
                yield changed
                write_list(self._folder, changed)
        except BaseException:
            _remove(self._folder, changed, before)
            raise
        self._list, self._rows = changed, None
        for name, listed in before.segments.items():
            kept = changed.segments.get(name)
            if kept is None or kept.dead is not listed.dead:
                gone = listed.live if kept is None else np.flatnonzero(kept.dead & ~listed.dead)
                for row in gone.tolist():
                    del self._place[listed.segment.passage_ids[row]]
        for name in changed.segments.keys() - before.segments.keys():
            self._place |= _places(name, changed.segments[name])
        _remove(self._folder, before, changed)

    def _kill(self, changed: SegmentList, passage_ids: Sequence[str]) -> None:
        for name, (_, rows) in self._by_segment([key for key in passage_ids if key in self._place]).items():
            dead = changed.segments[name].dead.copy()
            dead[rows] = True
            changed.segments[name] = replace(changed.segments[name], dead=dead)

    def _add(self, changed: SegmentList, segment: Segment) -> None:
        name = f"segment-{changed.next_serial()}"
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)  # of a build that was killed: no list names it
        try:
            files = write_segment(folder, segment)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        changed.segments[name] = Listed(files, mapped(folder, segment), np.zeros(len(segment), dtype=bool))

    def _merge(self, changed: SegmentList) -> None:
        while names := _to_merge(changed):
            parts = {name: changed.segments.pop(name) for name in names}
            live = [one.segment.of(one.live) for one in parts.values() if one.n_live]
            if live:
                self._add(changed, joined_segments(live))
            for name in parts.keys() - self._list.segments.keys():  # of this change itself
                shutil.rmtree(self._folder / name, ignore_errors=True)


def _to_merge(changed: SegmentList) -> list[str]:
    classes: dict[int, list[str]] = {}
    for name, listed in changed.segments.items():
        if 2 * listed.n_live <= len(listed.dead):
            return [name]
        classes.setdefault(int(math.log(listed.n_live, MERGED)), []).append(name)
    return next((names for names in classes.values() if len(names) >= MERGED), [])


def _places(name: str, listed: Listed) -> dict[str, tuple[str, int]]:
    return {listed.segment.passage_ids[row]: (name, row) for row in listed.live.tolist()}


def _replaced(rows: sp.csr_array, which: Rows, by: sp.csr_array) -> sp.csr_array:
    """``rows`` with those of ``which`` replaced."""
    order = np.arange(rows.shape[0])
    order[which] = rows.shape[0] + np.arange(len(which))
    replaced: sp.csr_array = sp.vstack([rows, by], format="csr")[order].tocsr()
    return replaced


def _remove(folder: Path, once: SegmentList, now: SegmentList) -> None:
    """Files that the list of ``once`` names and that of ``now`` does not."""
    for name, listed in once.segments.items():
        if name not in now.segments:
            shutil.rmtree(folder / name, ignore_errors=True)
        else:
            for file in listed.files.keys() - now.segments[name].files.keys():
                (folder / name / file).unlink(missing_ok=True)


def _no_vectors(layout: Layout) -> Encoded:
    dense = np.zeros((0, layout.dimension), dtype=np.float32)
    sparse = sp.csr_array(np.zeros((0, 1), dtype=np.float32)) if layout.has_sparse else None
    if layout.token_dimension is None:
        return Encoded(dense, sparse)
    rows = np.zeros((0, layout.token_dimension), dtype=np.float32)
    tokens = TokenVectors(rows, np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32))
    return Encoded(dense, sparse, tokens.stored_as(layout.token_precision))
