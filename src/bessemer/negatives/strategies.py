"""How candidates are proposed. A strategy is a function from the pool to one proposal per query."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from bessemer.config import NegativesConfig
from bessemer.errors import ConfigError
from bessemer.negatives.candidates import Pool, Proposal
from bessemer.search.exact import top_k as exact_top_k

Strategy = Callable[[Pool, NegativesConfig, int], Iterator[Proposal]]

# Denoising takes some proposals away; a random draw proposes this many times what is asked, to have some left.
RANDOM_OVERSAMPLING = 4
QUERIES_PER_BLOCK = 2048


def random_passages(pool: Pool, config: NegativesConfig, seed: int) -> Iterator[Proposal]:
    """Uniform over the corpus without replacement. Each query has a seed of its own, so growth moves no other draw."""
    n_passages = len(pool.passage_ids)
    for i, query in enumerate(pool.queries):
        digest = hashlib.sha256(f"{seed}:{query.query_id}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        n_drawn = min(n_passages, RANDOM_OVERSAMPLING * config.n_negatives + len(pool.excluded[i]))
        drawn = generator.choice(n_passages, size=n_drawn, replace=False, shuffle=True).astype(np.int64)
        chosen = drawn[~np.isin(drawn, pool.excluded[i])]
        yield Proposal(chosen, pool.scores(i, chosen))


def top_k(pool: Pool, config: NegativesConfig, seed: int) -> Iterator[Proposal]:
    """The nearest passages of the query, ranks ``[range_min, range_max)`` counted after its positives are taken out."""
    del seed  # nothing is drawn
    n_passages = len(pool.passage_ids)
    for start in range(0, len(pool.queries), QUERIES_PER_BLOCK):
        rows = range(start, min(start + QUERIES_PER_BLOCK, len(pool.queries)))
        depth = min(n_passages, config.range_max + max(len(pool.excluded[i]) for i in rows))
        scores, passages = exact_top_k(pool.query_vectors[rows.start : rows.stop], pool.passage_vectors, depth)
        for row, i in enumerate(rows):
            allowed = ~np.isin(passages[row], pool.excluded[i])
            window = slice(config.range_min, config.range_max)
            yield Proposal(passages[row][allowed][window], scores[row][allowed][window])


STRATEGIES: dict[str, Strategy] = {"random": random_passages, "top_k": top_k}


def get_strategy(name: str) -> Strategy:
    """The strategy of that name; raises ConfigError that lists what there is."""
    try:
        return STRATEGIES[name]
    except KeyError:
        raise ConfigError(f"negatives.strategy: unknown `{name}`; one of: {', '.join(sorted(STRATEGIES))}") from None
