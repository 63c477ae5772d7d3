"""How candidates are proposed. A strategy is a function from the pool to one proposal per query."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bessemer.config import NegativesConfig
from bessemer.draws import generator
from bessemer.errors import ConfigError
from bessemer.negatives.candidates import Pool, Proposal
from bessemer.negatives.neighbours import neighbours

Strategy = Callable[[Pool, NegativesConfig, int], Iterator[Proposal]]

# Denoising takes some proposals away; a random draw proposes this many times what is asked, to have some left.
RANDOM_OVERSAMPLING = 4


def random_passages(pool: Pool, config: NegativesConfig, seed: int) -> Iterator[Proposal]:
    """Uniform over the corpus without replacement. Each query has a seed of its own, so growth moves no other draw."""
    n_passages = len(pool.passages)
    for i, query in enumerate(pool.queries):
        n_drawn = min(n_passages, RANDOM_OVERSAMPLING * config.n_negatives + len(pool.excluded[i]))
        drawn = generator(seed, query.query_id).choice(n_passages, size=n_drawn, replace=False, shuffle=True)
        chosen = drawn.astype(np.int64)
        chosen = chosen[pool.is_allowed(i, chosen)]
        yield Proposal(chosen, pool.scores(i, chosen))


def top_k(pool: Pool, config: NegativesConfig, seed: int) -> Iterator[Proposal]:
    """The nearest passages, ranks ``[range_min, range_max)`` counted after the positives are taken out."""
    del seed  # nothing is drawn
    for found, scores in neighbours(pool, config):
        yield Proposal(found, scores)


def bm25(pool: Pool, config: NegativesConfig, seed: int) -> Iterator[Proposal]:
    """As ``top_k`` with lexical candidates: passages that share the words and not the answer."""
    return top_k(pool, config.model_copy(update={"candidates": "bm25"}), seed)


def same_document(pool: Pool, config: NegativesConfig, seed: int) -> Iterator[Proposal]:
    """Other passages of the positives' own documents, the nearest to the query first."""
    del config, seed
    for i, positives in enumerate(pool.positives):
        documents = {pool.passages[p].doc_id for p in positives}
        members = np.unique(np.concatenate([pool.corpus.of_document[doc_id] for doc_id in documents]))
        members = members[pool.is_allowed(i, members)]
        scores = pool.scores(i, members)
        order = np.argsort(-scores, kind="stable")
        yield Proposal(members[order], scores[order])


def simans(pool: Pool, config: NegativesConfig, seed: int) -> Iterator[Proposal]:
    """Ambiguous negatives (SimANS, Zhou et al. 2022, 2210.11773): all of the window, drawn with probability

    p_i proportional to exp(-a * (z(q, d_i) - z(q, d+) - b)^2), d+ one positive of the query, drawn at random.

    z is the score over the standard deviation of all windows' scores: raw cosines lie so close together that every a
    near 1 would draw uniformly.
    """
    found = list(top_k(pool, config, seed))
    deviation = float(np.std(np.concatenate([proposal.scores for proposal in found]))) if found else 0.0
    for i, proposal in enumerate(found):
        positive = generator(seed, pool.queries[i].query_id).choice(pool.positives[i], size=1).astype(np.int64)
        difference = proposal.scores.astype(np.float64) - float(pool.scores(i, positive)[0])
        z = difference / deviation if deviation > 0 else difference * 0
        exponent = -config.simans_a * (z - config.simans_b) ** 2
        weights = np.exp(exponent - exponent.max(initial=-np.inf)) if len(z) else exponent
        yield Proposal(proposal.passages, proposal.scores, weights / weights.sum() if len(z) else weights)


STRATEGIES: dict[str, Strategy] = {
    "random": random_passages,
    "top_k": top_k,
    "simans": simans,
    "same_document": same_document,
    "bm25": bm25,
}


def require_known(config: NegativesConfig) -> None:
    """Raises ConfigError, which lists what there is, for unknown strategies."""
    mixed = config.strategy == "mixed"
    key, known = ("shares", sorted(STRATEGIES)) if mixed else ("strategy", sorted([*STRATEGIES, "mixed"]))
    unknown = [name for name in (config.shares if mixed else [config.strategy]) if name not in STRATEGIES]
    if unknown:
        raise ConfigError(f"negatives.{key}: unknown `{', '.join(unknown)}`; one of: {', '.join(known)}")


def parts(config: NegativesConfig) -> list[tuple[str, Strategy, int]]:
    """The strategies asked for, each with how many negatives it gives: one, or those of a mix by largest remainder.
    Raises as `require_known`."""
    require_known(config)
    shares = dict(config.shares) if config.strategy == "mixed" else {config.strategy: 1.0}
    exact = {name: config.n_negatives * share / sum(shares.values()) for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    left = config.n_negatives - sum(counts.values())
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[:left]:  # stable: the first named wins
        counts[name] += 1
    return [(name, STRATEGIES[name], counts[name]) for name in shares]
