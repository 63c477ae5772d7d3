"""The lexicon: exact while passages come and go, and on a fresh build the same as BM25 and as bm25s."""

from __future__ import annotations

import inspect
import json
import random
from pathlib import Path

import bm25s
import numpy as np
import pytest
import scipy.sparse as sp

from bessemer.errors import ArtifactError
from bessemer.search.bm25 import BM25, analyze
from bessemer.search.lexicon import DRIFT, Lexicon
from bessemer.search.postings import Postings


def docstrings() -> list[str]:
    members = (inspect.getdoc(getattr(np, name)) for name in sorted(dir(np)))
    return [text for text in dict.fromkeys(members) if text]


def of(texts: list[str]) -> tuple[Lexicon, sp.csr_array]:
    lexicon = Lexicon()
    counts = lexicon.count(texts)
    lexicon.add(counts)
    lexicon.written_mean = lexicon.mean_length
    return lexicon, lexicon.weights(counts)


def narrow(rows: sp.csr_array, width: int) -> sp.csr_array:
    return sp.csr_array((rows.data, rows.indices, rows.indptr), shape=(rows.shape[0], width))


def test_a_fresh_build_is_bm25_to_the_last_bit() -> None:
    texts = docstrings()[:300]
    ids = [f"p{i}" for i in range(len(texts))]
    lexicon, weights = of(texts)
    reference = BM25.build(ids, texts)
    width = len(reference.vocabulary)
    queries = [text.splitlines()[0] for text in texts[::7]]
    postings = Postings(ids, narrow(weights, width).T.tocsr())
    found = postings.search(narrow(lexicon.queries(queries), width), 50)
    assert found == reference.search(queries, 50)
    for place in (0, 17, 40):
        column = reference.postings[:, [place]].toarray()[:, 0] * reference.query_weights
        heaviest = np.argsort(-column, kind="stable")[:5]
        assert lexicon.telling_words(texts[place], 5) == [list(reference.vocabulary)[term] for term in heaviest]


def check_bm25s(texts: list[str], queries: list[str]) -> None:
    reference = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    reference.index([analyze(text) for text in texts], show_progress=False)
    lexicon, weights = of(texts)
    width = int(weights.indices.max()) + 1
    queries = [query for query in queries if analyze(query)]
    scores = (narrow(lexicon.queries(queries), width) @ narrow(weights, width).T).toarray()
    for query, row in zip(queries, scores, strict=True):
        expected = reference.get_scores(analyze(query))
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)
        best = np.lexsort((np.arange(len(row)), -row))[:10]  # the same passages, but for ties in the last digits
        np.testing.assert_allclose(np.sort(expected)[::-1][:10], expected[best], rtol=1e-5, atol=1e-6)


def test_equal_to_bm25s_on_real_text() -> None:
    texts = docstrings()
    check_bm25s(texts, [text.splitlines()[0] for text in texts[::9]])


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["cranfield", "scifact"])
def test_equal_to_bm25s_on_collections(data_dir: Path, name: str) -> None:
    folder = data_dir / "beir" / name
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").open(encoding="utf-8")]
    queries = [json.loads(line)["text"] for line in (folder / "queries.jsonl").open(encoding="utf-8")]
    check_bm25s([f"{row['title']}\n{row['text']}" for row in rows], queries[:200])


def test_exact_while_passages_come_and_go() -> None:
    rng = random.Random(1)
    texts = {f"p{i}": text for i, text in enumerate(docstrings()[:80])}
    lexicon, _ = of(list(texts.values()))
    for step in range(20):
        gone = rng.sample(sorted(texts), 3)
        lexicon.remove(lexicon.count([texts.pop(key) for key in gone]))
        new = {
            f"n{step}-{i}": f"word{step} {rng.choice(list(texts.values()))[:200]} 大桥"
            for i in range(rng.randint(0, 5))
        }
        lexicon.add(lexicon.count(new.values()))
        texts |= new
    fresh, _ = of(list(texts.values()))
    assert (lexicon.n_passages, lexicon.total_length) == (fresh.n_passages, fresh.total_length)
    for query in ("word3 大桥", "the array shape", "return returns returned"):
        mine, theirs = lexicon.queries([query]), fresh.queries([query])
        np.testing.assert_array_equal(mine.data[mine.data > 0], theirs.data[theirs.data > 0])


def test_ids_are_never_given_twice_and_survive_being_written() -> None:
    lexicon, _ = of(["red apple", "green apple"])
    lexicon.remove(lexicon.count(["red apple"]))
    again = Lexicon.from_bytes(lexicon.to_bytes(), "x")
    assert again.to_bytes() == lexicon.to_bytes()
    counts = again.count(["green red sky"])
    assert sorted(counts.rows.indices.tolist()) == [0, 2, 3]  # red, green, sky
    again.add(counts)
    assert again.n_passages == 2
    assert again.count(["sky"]).rows.indices.tolist() == [3]


def test_drift() -> None:
    lexicon, _ = of(["four words are here"] * 20)
    assert not lexicon.has_drifted
    lexicon.add(lexicon.count(["of these there are eight words in all"]))  # mean 4 -> 88 / 21, 4.8% more
    assert not lexicon.has_drifted
    lexicon.add(lexicon.count(["of these there are eight words in all"]))
    assert lexicon.mean_length / lexicon.written_mean - 1 > DRIFT
    assert lexicon.has_drifted


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"terms": ["a"], "frequency": []}', b"\xff"])
def test_damage_is_named(content: bytes) -> None:
    with pytest.raises(ArtifactError, match="here: the index is damaged"):
        Lexicon.from_bytes(content, "here")


def test_nothing() -> None:
    lexicon, weights = of([""])
    assert weights.nnz == 0
    assert lexicon.queries(["word", ""]).nnz == 0
    assert lexicon.telling_words("", 3) == []
