"""Mining: encode, propose, screen, choose, count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bessemer.config import NegativesConfig
from bessemer.draws import generator, weighted_order
from bessemer.encoders.encoder import Encoder
from bessemer.errors import ArtifactError
from bessemer.negatives.candidates import Corpus, Pool, Positions, Proposal, build_pool
from bessemer.negatives.denoise import Reranker, near_duplicates, relative_margin_of, too_close, vetoed
from bessemer.negatives.strategies import parts
from bessemer.types import HardNegatives, Judged, Passage

DIRTY_SHARE = 0.5
"""Above this share of nearest candidates dropped as suspected false negatives, the report warns of dirty data."""
RERANKED = 2
"""The reranker reads this many times the negatives asked for, of what the other rules have left."""


@dataclass(frozen=True)
class MiningReport:
    """``mean_per_query``: negatives that a query has at a time. ``mean_drawn_from``: candidates that they are drawn
    from by their probabilities; None where all are taken."""

    strategy: str
    n_queries: int
    mean_per_query: float
    mean_drawn_from: float | None
    dropped: Mapping[str, int]
    dropped_share: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Mined:
    negatives: tuple[HardNegatives, ...]
    report: MiningReport


@dataclass(frozen=True)
class Screened:
    """What one strategy proposes for one query, how many it may give, and why a candidate is out ("": it is not)."""

    proposal: Proposal
    n_wanted: int
    reasons: NDArray[np.object_]

    @property
    def trusted(self) -> Positions:
        return np.flatnonzero(self.reasons == "")


def mine_hard_negatives(
    judged: Judged,
    passages: Sequence[Passage],
    encoder: Encoder,
    config: NegativesConfig,
    seed: int = 42,
    reranker: Reranker | None = None,
) -> Mined:
    """Hard negatives of every judged query that has a positive, ``config.n_negatives`` at most for each.

    ``simans`` keeps all candidates with the probability of each, ``mixed`` its shares with the same for all: training
    draws from them anew each time it uses a query. The others are in the order in which they were proposed, the
    nearest first. Positives of a query are excluded across all rows, as are passages and queries of the same text.
    Scores are the encoder's own similarity (dot of its vectors: the cosine where it normalises), whichever strategy
    proposed.
    Raises ConfigError for an unknown strategy.
    """
    return mine_from(Corpus(passages), judged, encoder, config, seed, reranker)


def mine_from(
    corpus: Corpus,
    judged: Judged,
    encoder: Encoder,
    config: NegativesConfig,
    seed: int = 42,
    reranker: Reranker | None = None,
) -> Mined:
    """As `mine_hard_negatives`, again and again as weights change: what goes by texts alone stays in ``corpus``."""
    chosen = parts(config)
    queries = encoder.encode_queries([query.searched_text for query in judged.queries]).dense
    vectors = encoder.encode_passages([passage.indexed_text for passage in corpus.passages]).dense
    if queries is None or vectors is None:
        raise ArtifactError("mining needs dense vectors, which this encoder does not give; use a dense model")
    pool, without_positive = build_pool(judged, corpus, queries, vectors)

    dropped: Counter[str] = Counter()
    n_seen = 0
    kept = []
    for i, proposals in enumerate(zip(*(strategy(pool, config, seed) for _, strategy, _ in chosen), strict=True)):
        screened = [
            _screen(pool, i, name, n, proposal, config, reranker)
            for (name, _, n), proposal in zip(chosen, proposals, strict=True)
        ]
        negatives, why = _choose(pool, i, screened, config, seed)
        kept.append(negatives)
        dropped += why
        n_seen += why.total() + len(negatives.passage_ids)
    return Mined(tuple(kept), _report(kept, dropped, n_seen, without_positive, config))


def _screen(
    pool: Pool,
    i: int,
    name: str,
    n_wanted: int,
    proposal: Proposal,
    config: NegativesConfig,
    reranker: Reranker | None,
) -> Screened:
    """Every rule in turn, the dearest last and only on what it may matter for."""
    reasons = np.full(len(proposal.passages), "", dtype=object)
    margin = relative_margin_of(name, config)
    close, rule = too_close(proposal.scores, pool.positive_scores[i], margin, config.absolute_margin)
    reasons[close] = rule
    left = (~close).nonzero()[0]
    reasons[left[near_duplicates(pool, i, proposal.passages[left])]] = "near-duplicate of a positive"
    if reranker is not None:
        left = (reasons == "").nonzero()[0]
        if proposal.probabilities is None and len(left) > RERANKED * n_wanted:  # the rest is not even proposed
            left = left[: RERANKED * n_wanted]
            end = int(left.max(initial=-1)) + 1
            proposal, reasons = Proposal(proposal.passages[:end], proposal.scores[:end]), reasons[:end]
        reasons[left[vetoed(pool, i, proposal.passages[left], reranker)]] = "reranker"
    return Screened(proposal, n_wanted, reasons)


def _choose(
    pool: Pool, i: int, screened: Sequence[Screened], config: NegativesConfig, seed: int
) -> tuple[HardNegatives, Counter[str]]:
    """The negatives of one query, and the candidates dropped on the way to them by reason."""
    query_id = pool.queries[i].query_id
    probabilities: tuple[float, ...] | None
    if len(screened) == 1 and screened[0].proposal.probabilities is not None:
        found, probabilities, dropped = _all_with_probabilities(screened[0])
    else:
        picked, dropped = _first_of_each(screened, seed, query_id)
        found = np.array(picked, dtype=np.int64)
        equal = (1 / max(1, len(found)),) * len(found)
        probabilities = equal if len(screened) > 1 else None  # no part goes before the others
    negatives = HardNegatives(
        query_id=query_id,
        passage_ids=tuple(pool.passages[p].passage_id for p in found),
        scores=tuple(pool.scores(i, found).tolist()),
        positive_scores={
            pool.passages[p].passage_id: float(score)
            for p, score in zip(pool.positives[i], pool.positive_scores[i], strict=True)
        },
        strategy=config.strategy,
        probabilities=probabilities,
    )
    return negatives, dropped


def _all_with_probabilities(part: Screened) -> tuple[Positions, tuple[float, ...], Counter[str]]:
    trusted = part.trusted
    assert part.proposal.probabilities is not None
    weights = part.proposal.probabilities[trusted]
    total = weights.sum()
    weights = weights / total if total > 0 else np.full(len(weights), 1 / max(1, len(weights)))
    dropped = Counter(reason for reason in part.reasons if reason)
    return part.proposal.passages[trusted], tuple(weights.tolist()), dropped


def _first_of_each(screened: Sequence[Screened], seed: int, query_id: str) -> tuple[list[int], Counter[str]]:
    """The quota of every part; what one part cannot give, the others do, in the order in which they are named."""
    picked: dict[int, None] = {}
    dropped: Counter[str] = Counter()
    n_asked = sum(part.n_wanted for part in screened)
    unseen = [iter(_in_order(part, seed, query_id)) for part in screened]
    for fills in (False, True):
        for part, candidates in zip(screened, unseen, strict=True):
            quota = n_asked - len(picked) if fills else part.n_wanted
            while quota > 0 and (candidate := next(candidates, None)) is not None:
                passage, reason = int(part.proposal.passages[candidate]), part.reasons[candidate]
                if reason:
                    dropped[reason] += 1
                elif passage not in picked:
                    picked[passage] = None
                    quota -= 1
    return list(picked), dropped


def drawn(negatives: Sequence[HardNegatives], n: int, seed: int) -> tuple[HardNegatives, ...]:
    """One draw of ``n`` of those that have probabilities, for files that cannot hold any; the others as they are."""
    return tuple(row if row.probabilities is None else _drawn(row, n, seed) for row in negatives)


def _drawn(row: HardNegatives, n: int, seed: int) -> HardNegatives:
    order = weighted_order(np.array(row.probabilities), generator(seed, row.query_id))[:n]
    return replace(
        row,
        passage_ids=tuple(row.passage_ids[i] for i in order),
        scores=tuple(row.scores[i] for i in order),
        probabilities=None,
    )


def _in_order(part: Screened, seed: int, query_id: str) -> Positions:
    """Candidates in the order in which they are taken: as proposed, or as a draw by their probabilities has it."""
    probabilities = part.proposal.probabilities
    if probabilities is None:
        return np.arange(len(part.proposal.passages))
    return weighted_order(probabilities, generator(seed, query_id))


def _report(
    kept: Sequence[HardNegatives],
    dropped: Mapping[str, int],
    n_seen: int,
    without_positive: Sequence[str],
    config: NegativesConfig,
) -> MiningReport:
    found = np.array([len(negatives.passage_ids) for negatives in kept], dtype=np.int64)
    n_short = int((found < config.n_negatives).sum())
    share = sum(dropped.values()) / n_seen if n_seen else 0.0
    warnings = []
    if without_positive:
        warnings.append(f"{len(without_positive)} queries have no relevant passage in the corpus: no negatives mined")
    if n_short:
        warnings.append(f"{n_short} of {len(kept)} queries have fewer than {config.n_negatives} negatives left")
    if share > DIRTY_SHARE:
        warnings.append(
            f"{share:.0%} of the nearest candidates score as high as a positive: the data may have many unjudged "
            "relevant passages, or positives that do not answer their queries; look at a few before you trust it"
        )
    return MiningReport(
        strategy=config.strategy,
        n_queries=len(kept),
        mean_per_query=float(np.minimum(found, config.n_negatives).mean()) if kept else 0.0,
        mean_drawn_from=float(found.mean()) if (found > config.n_negatives).any() else None,
        dropped=dropped,
        dropped_share=share,
        warnings=tuple(warnings),
    )
