"""Mining: encode, propose, denoise, keep the first n, count the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bessemer.config import NegativesConfig
from bessemer.encoders.encoder import Encoder
from bessemer.errors import ArtifactError
from bessemer.negatives.candidates import Pool, Proposal, build_pool
from bessemer.negatives.denoise import too_close
from bessemer.negatives.strategies import get_strategy
from bessemer.types import HardNegatives, Judged, Passage

DIRTY_SHARE = 0.5
"""Above this share of nearest candidates dropped as suspected false negatives, the report warns of dirty data."""


@dataclass(frozen=True)
class MiningReport:
    strategy: str
    n_queries: int
    mean_per_query: float
    dropped: Mapping[str, int]
    dropped_share: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Mined:
    negatives: tuple[HardNegatives, ...]
    report: MiningReport


def mine_hard_negatives(
    judged: Judged, passages: Sequence[Passage], encoder: Encoder, config: NegativesConfig, seed: int = 42
) -> Mined:
    """Hard negatives of every judged query that has a positive, ``config.n_negatives`` at most for each.

    Positives of a query are excluded across all rows, as are passages and queries of the same text. Scores are the
    encoder's own similarity (dot of its vectors: the cosine where it normalises), whichever strategy proposed.
    Raises ConfigError for an unknown strategy.
    """
    strategy = get_strategy(config.strategy)
    queries = encoder.encode_queries([query.text for query in judged.queries]).dense
    corpus = encoder.encode_passages([passage.indexed_text for passage in passages]).dense
    if queries is None or corpus is None:
        raise ArtifactError("mining needs dense vectors, which this encoder does not give; use a dense model")
    pool, without_positive = build_pool(judged, passages, queries, corpus)

    dropped: Counter[str] = Counter()
    n_seen = 0
    kept = []
    for i, proposal in enumerate(strategy(pool, config, seed)):
        negatives, n_close, rule = _keep(pool, i, proposal, config)
        n_seen += len(negatives.passage_ids) + n_close
        dropped[rule] += n_close
        kept.append(negatives)
    return Mined(tuple(kept), _report(kept, +dropped, n_seen, without_positive, config))


def _keep(pool: Pool, i: int, proposal: Proposal, config: NegativesConfig) -> tuple[HardNegatives, int, str]:
    """The first ``n_negatives`` trusted candidates; how many were dropped on the way to them, by which rule."""
    positive_scores = pool.scores(i, pool.positives[i])
    close, rule = too_close(proposal.scores, positive_scores, config)
    trusted = (~close).nonzero()[0][: config.n_negatives]
    n_seen = len(close) if len(trusted) < config.n_negatives else int(trusted.max(initial=-1)) + 1
    n_close = int(close[:n_seen].sum())
    negatives = HardNegatives(
        query_id=pool.queries[i].query_id,
        passage_ids=tuple(pool.passage_ids[p] for p in proposal.passages[trusted]),
        scores=tuple(float(score) for score in proposal.scores[trusted]),
        positive_scores={
            pool.passage_ids[p]: float(score) for p, score in zip(pool.positives[i], positive_scores, strict=True)
        },
        strategy=config.strategy,
    )
    return negatives, n_close, rule


def _report(
    kept: Sequence[HardNegatives],
    dropped: Mapping[str, int],
    n_seen: int,
    without_positive: Sequence[str],
    config: NegativesConfig,
) -> MiningReport:
    n_kept = sum(len(negatives.passage_ids) for negatives in kept)
    n_short = sum(len(negatives.passage_ids) < config.n_negatives for negatives in kept)
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
        mean_per_query=n_kept / len(kept) if kept else 0.0,
        dropped=dropped,
        dropped_share=share,
        warnings=tuple(warnings),
    )
