from __future__ import annotations

import random

import pytest

from bessemer.config import ChunkingConfig
from bessemer.corpus.dedup import cluster_documents, deduplicate
from bessemer.types import Document, Passage

WORDS = [f"word{number}" for number in range(500)]


def passage(identity: str, text: str, *headings: str) -> Passage:
    return Passage(identity, identity.split("#")[0], text, headings=headings)


def random_text(seed: int, n_words: int = 60) -> list[str]:
    return random.Random(seed).choices(WORDS, k=n_words)


def test_exact_duplicates_ignore_case_marks_and_spacing() -> None:
    first, second = passage("a#1", "The price is 5 euro."), passage("b#1", "the  PRICE is: 5 euro")
    result = deduplicate([first, second, passage("c#1", "The price is 6 euro.")], ChunkingConfig())
    assert [p.passage_id for p in result.kept] == ["a#1", "c#1"]
    (item,) = result.dropped
    assert (item.id, item.reason, item.passage_id, item.score) == ("b#1", "exact duplicate", "a#1", 1.0)


def test_the_same_short_text_under_another_heading_is_something_else() -> None:
    pair = [passage("a#1", "See the table.", "Prices"), passage("a#2", "See the table.", "Delivery")]
    assert len(deduplicate(pair, ChunkingConfig()).kept) == 2


def test_near_duplicates_are_those_over_the_threshold() -> None:
    base = random_text(1)
    near, far = base.copy(), base.copy()
    near[30] = "changed"  # 3 of 58 shingles differ: 55 / 61 = 0.90
    for index in (5, 20, 35, 50):
        far[index] = f"changed{index}"  # 12 of 58 differ: 46 / 70 = 0.66
    texts = [passage("a#1", " ".join(base)), passage("b#1", " ".join(near)), passage("c#1", " ".join(far))]
    result = deduplicate(texts, ChunkingConfig(near_duplicates=0.9))
    assert [p.passage_id for p in result.kept] == ["a#1", "c#1"]
    (item,) = result.dropped
    assert (item.reason, item.passage_id) == ("near-duplicate", "a#1")
    assert item.score == pytest.approx(55 / 61)


def test_chinese_near_duplicate() -> None:
    text = "".join(chr(0x4E00 + random.Random(7).randrange(3000) + index) for index in range(120))
    changed = text[:60] + "改" + text[61:]
    result = deduplicate([passage("a#1", text), passage("b#1", changed)], ChunkingConfig(near_duplicates=0.9))
    assert [item.reason for item in result.dropped] == ["near-duplicate"]


def test_every_planted_near_duplicate_is_found_and_nothing_else() -> None:
    passages = []
    for number in range(300):
        words = random_text(number, 80)
        passages.append(passage(f"d{number}#1", " ".join(words)))
        if number % 10 == 0:
            passages.append(passage(f"copy{number}#1", " ".join([*words[:-1], "other"])))
    result = deduplicate(passages, ChunkingConfig())
    assert {item.id for item in result.dropped} == {f"copy{number}#1" for number in range(0, 300, 10)}


def document(doc_id: str, *parts: list[str]) -> Document:
    return Document(doc_id, " ".join(word for part in parts for word in part))


def test_versions_are_one_cluster_and_a_shared_notice_makes_none() -> None:
    notice = random_text(99, 20)
    bodies = [random_text(seed, 100) for seed in range(4)]
    documents = [document(f"d{number}", bodies[number], notice) for number in range(4)]
    version = document("b-new", bodies[2][:90], random_text(50, 15), notice)
    clusters = cluster_documents([*documents, version])
    assert clusters == {"d0": "d0", "d1": "d1", "d2": "b-new", "b-new": "b-new", "d3": "d3"}


def test_many_copies_are_one_cluster() -> None:
    body = random_text(3, 100)
    clusters = cluster_documents([document(f"d{number:03}", body) for number in range(120)])
    assert set(clusters.values()) == {"d000"}


def test_no_documents() -> None:
    assert cluster_documents([]) == {}
