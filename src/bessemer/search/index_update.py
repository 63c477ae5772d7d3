"""One generation made equal to a list of passages, in batches that each are on disk when the engine has taken them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.encoder import OUTPUTS, ContextEncoder, Encoded, Encoder
from bessemer.errors import ArtifactError
from bessemer.search.encoded_texts import join_texts, texts_of, unified_in
from bessemer.search.index_manifest import read_lexicon, write_lexicon
from bessemer.search.lexicon import Lexicon, TermCounts
from bessemer.search.retriever import unit_length
from bessemer.search.stores.store import Engine, Layout, Stored, VectorStore
from bessemer.types import Passage

log = logging.getLogger("bessemer")

BATCH = 1024


class Update:
    """``store`` is None where the generation is not there yet. ``n_reweighed`` after the run: passages whose BM25
    weights alone were written again."""

    def __init__(
        self,
        engine: Engine,
        generation: str,
        store: VectorStore | None,
        encoder: Encoder,
        passages: Sequence[Passage],
    ) -> None:
        self.n_reweighed = 0
        self._engine, self._generation, self._encoder = engine, generation, encoder
        self._passages = {passage.passage_id: passage for passage in passages}
        context = encoder.context_of if isinstance(encoder, ContextEncoder) else _no_context
        self._stamps = {passage.passage_id: stamp_of(passage, context(passage)) for passage in passages}
        self._store = store
        self._known = dict(store.text_hashes()) if store else {}
        self._lexicon = self._counted() if store and self._known else Lexicon()

    @property
    def layout(self) -> Layout:
        assert self._store is not None
        return self._store.layout

    @property
    def n_texts(self) -> int:
        """Distinct ones; where passages are read in their documents, distinct in their places there."""
        return len({text_of(stamp) for stamp in self._stamps.values()})

    def run(self) -> int:
        """The number of texts that went through the model.

        The lexicon is written twice: with the ids of new terms before the first passage that uses them, marked as not
        exact; and exact, when all is done. A run that finds the mark counts anew.
        """
        known, stamps, lexicon = self._known, self._stamps, self._lexicon
        changed = self._in_order([key for key, stamp in stamps.items() if known.get(key) != stamp])
        gone = [key for key in known if key not in stamps]
        if not changed and not gone and lexicon.is_exact:
            return 0
        for batch in self._stored([*gone, *(key for key in changed if key in known)]):
            lexicon.remove(lexicon.count(passage.indexed_text for passage in batch))
        counts = lexicon.count(self._passages[key].indexed_text for key in changed)
        lexicon.add(counts)
        kept = [key for key in known if key in stamps and known[key] == stamps[key]]
        is_reweighed = lexicon.has_drifted
        mean = lexicon.mean_length if is_reweighed else lexicon.written_mean
        lexicon.is_exact, lexicon.written_mean = False, 0.0 if is_reweighed and kept else mean
        write_lexicon(self._engine, self._generation, lexicon)
        lexicon.written_mean = mean
        n_encoded = self._upsert(changed, counts)
        self._delete(gone)
        if is_reweighed:
            self._reweigh(kept)
        lexicon.is_exact = True
        write_lexicon(self._engine, self._generation, lexicon)
        return n_encoded

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _counted(self) -> Lexicon:
        """The lexicon of what the store holds; counted from its texts where a run was stopped or another version cut
        the words, and with ids of its own, so that all weights are written again, where it is damaged."""
        try:
            lexicon = read_lexicon(self._engine, self._generation)
        except ArtifactError:
            lexicon = Lexicon()
            lexicon.is_exact = False
        if not (lexicon.is_exact and lexicon.is_current):
            lexicon.is_exact = False
            lexicon.start_again()
            for batch in self._stored(list(self._known)):
                lexicon.add(lexicon.count(passage.indexed_text for passage in batch))
        return lexicon

    def _in_order(self, changed: list[str]) -> list[str]:
        """Texts that are there under another id first: later, that id may have another text."""
        texts = {text_of(stamp) for stamp in self._known.values()}
        return sorted(changed, key=lambda key: (text_of(self._stamps[key]) not in texts, key in self._known))

    def _stored(self, passage_ids: Sequence[str]) -> Iterator[list[Passage]]:
        for batch in _batches(passage_ids):
            assert self._store is not None
            yield self._store.passages(batch)

    def _upsert(self, changed: Sequence[str], counts: TermCounts) -> int:
        """A cached encoder is given all at once: it keeps runs of texts, which a batch would cut in two, and what was
        encoded is on disk before the first batch is."""
        holder = {text_of(stamp): key for key, stamp in self._known.items()}
        n_encoded = done = 0
        for some in [changed] if isinstance(self._encoder, CachedEncoder) and changed else _batches(changed):
            encoded, n_new = self._encoded(some, holder)
            n_encoded += n_new
            for start, batch in zip(range(0, len(some), BATCH), _batches(some), strict=True):
                self._write(batch, texts_of(encoded, slice(start, start + BATCH)), counts, done, holder)
                done += len(batch)
                log.info("index: %d of %d passages written", done, len(changed))
        return n_encoded

    def _write(
        self, batch: Sequence[str], encoded: Encoded, counts: TermCounts, done: int, holder: dict[str, str]
    ) -> None:
        """One batch, the rows of ``counts`` from ``done`` on. ``holder``: a passage in the store for every text."""
        rows = np.arange(done, done + len(batch))
        passages, stamps = [self._passages[key] for key in batch], [self._stamps[key] for key in batch]
        if self._store is None:
            self._store = self._engine.create(self._generation, layout_of(encoded))
        self._store.upsert(Stored(passages, stamps, encoded, self._lexicon.weights(counts.of(rows))))
        for key, stamp in zip(batch, stamps, strict=True):
            text = text_of(self._known.get(key, ""))
            if holder.get(text) == key:
                del holder[text]
            self._known[key] = stamp
        holder |= {text_of(stamp): key for key, stamp in zip(batch, stamps, strict=True)}

    def _encoded(self, batch: Sequence[str], holder: Mapping[str, str]) -> tuple[Encoded, int]:
        """Row i for passage i, each text once through the model, if the store does not have it; and how many were."""
        texts = {text_of(self._stamps[key]): self._passages[key] for key in batch}
        missing = [text for text in texts if text not in holder]
        taken = [text for text in texts if text in holder]
        parts = []
        if taken:
            assert self._store is not None
            parts.append(self._store.vectors([holder[text] for text in taken]))
        if missing:
            parts.append(encode_passages(self._encoder, [texts[text] for text in missing]))
        row_of = {text: row for row, text in enumerate([*taken, *missing])}
        rows = np.array([row_of[text_of(self._stamps[key])] for key in batch], dtype=np.int64)
        return texts_of(join_texts(parts), rows), len(missing)

    def _delete(self, gone: Sequence[str]) -> None:
        for batch in _batches(gone):
            assert self._store is not None
            self._store.delete(batch)

    def _reweigh(self, kept: Sequence[str]) -> None:
        for batch in self._stored(kept):
            assert self._store is not None
            weights = self._lexicon.weights(self._lexicon.count(passage.indexed_text for passage in batch))
            self._store.rewrite_bm25([passage.passage_id for passage in batch], weights)
        self.n_reweighed = len(kept)


def stamp_of(passage: Passage, context: str = "") -> str:
    """``text:rest``: hashes of what is encoded, with the ``context`` that it is read in where there is any, and of all
    else that an index keeps of a passage."""
    encoded = f"{context}\n{passage.indexed_text}" if context else passage.indexed_text
    text = hashlib.sha256(encoded.encode("utf-8", "surrogatepass")).hexdigest()
    fields = (passage.doc_id, passage.title, passage.text, passage.start, passage.end, passage.headings)
    rest = json.dumps([*fields, dict(passage.metadata)], sort_keys=True)
    return f"{text}:{hashlib.sha256(rest.encode()).hexdigest()[:16]}"


def _no_context(passage: Passage) -> str:
    return ""


def text_of(stamp: str) -> str:
    return stamp.partition(":")[0]


def encode_passages(encoder: Encoder, passages: Sequence[Passage]) -> Encoded:
    """As an index keeps them: dense vectors at unit length where the similarity is cosine."""
    if isinstance(encoder, ContextEncoder):
        return encoder.encode_in_context(passages)
    unified, texts = unified_in(encoder), [passage.indexed_text for passage in passages]
    encoded = unified.encode_passages(texts, outputs=OUTPUTS) if unified else encoder.encode_passages(texts)
    if encoded.dense is None:
        raise ValueError("the encoder gives no dense vectors")
    return replace(encoded, dense=unit_length(encoded.dense)) if encoder.similarity == "cosine" else encoded


def layout_of(encoded: Encoded) -> Layout:
    assert encoded.dense is not None
    tokens = encoded.multi_vector
    if tokens is None:
        return Layout(encoded.dense.shape[1], encoded.sparse is not None)
    return Layout(encoded.dense.shape[1], encoded.sparse is not None, tokens.dimension, tokens.precision)


def _batches(items: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(items)
    while batch := list(islice(remaining, BATCH)):
        yield batch
