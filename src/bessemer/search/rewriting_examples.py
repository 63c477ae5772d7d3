"""Questions that people asked before, with the telling words of the passages that helped them: from these a language
model learns the documents' words for what people ask."""

from __future__ import annotations

import numpy as np

from bessemer.encoders.encoder import Encoder
from bessemer.search.analyzer import analyze
from bessemer.search.index import Index
from bessemer.search.retriever import unit_length
from bessemer.search.rewrite import Example
from bessemer.types import Judged

N_EXAMPLES = 3
N_WORDS = 6


def examples_near(question: str, helped: Judged, index: Index, encoder: Encoder) -> list[Example]:
    """Of the questions in ``helped`` those nearest to ``question``, the nearest first.

    ``encoder``: the index's own, or a cache of it. Questions whose passages the index does not hold, or that
    have all their words, are no examples.
    """
    queries = [
        query for query in helped.queries if any(p in index.passage_ids for p in _helpful(helped, query.query_id))
    ]
    if not queries:
        return []
    asked, known = (
        encoder.encode_queries(texts).dense for texts in ([question], [query.searched_text for query in queries])
    )
    assert asked is not None  # an index has dense vectors
    assert known is not None
    nearest = np.argsort(-(unit_length(known) @ unit_length(asked)[0]), kind="stable").tolist()
    examples = []
    for query in (queries[place] for place in nearest):
        own = set(analyze(query.text))
        words = [
            word
            for passage_id in _helpful(helped, query.query_id)
            for word in index.telling_words(passage_id, N_WORDS + len(own))
            if word not in own
        ]
        if words:
            examples.append(Example(query.text, tuple(dict.fromkeys(words))[:N_WORDS]))
        if len(examples) == N_EXAMPLES:
            break
    return examples


def _helpful(helped: Judged, query_id: str) -> list[str]:
    return [passage_id for passage_id, grade in helped.qrels.get(query_id, {}).items() if grade > 0]
