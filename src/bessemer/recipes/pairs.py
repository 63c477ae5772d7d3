"""Pairs with scores or labels, as training takes them: read, checked, a dev part carved."""

from __future__ import annotations

from collections.abc import Collection as Group
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.draws import digest, uniform
from bessemer.formats.lines import hash_id
from bessemer.formats.pairs import JudgedPairs, LabelledPair, ScoredPair, Triplet, read_pairs
from bessemer.formats.splits import DEV_SHARE, clusters
from bessemer.text import folded
from bessemer.training.pair_pool import PairPool
from bessemer.training.pair_task import require_difference

LEAST_DEV = 20
"""Pairs from which on dev says more than chance does."""


@dataclass(frozen=True)
class PairMaterial:
    """``account``: the ``data`` part of training.json. ``dev`` may be empty."""

    train: JudgedPairs
    dev: JudgedPairs
    account: Mapping[str, Any]

    def pool(self) -> PairPool | None:
        """What checkpoints are chosen on; None without dev."""
        statement = f"{len(self.dev)} dev pairs, carved from the data by clusters of shared texts"
        return PairPool(self.dev, statement) if self.dev else None


def holds_pairs(data: str | None) -> bool:
    """Whether this is a TSV of scored or labelled pairs; triplets are a collection. Raises DataError for a bad one."""
    return bool(data) and Path(str(data)).suffix == ".tsv" and not isinstance(read_pairs(str(data))[0], Triplet)


def load_pairs(config: Config) -> PairMaterial:
    """The pairs of ``config.data``. About a tenth, whole clusters of pairs that share texts, becomes dev, so that no
    text stands in both. Raises DataError with the file's name where all scores or labels are the same."""
    file = config.data or ""
    pairs = tuple(pair for pair in read_pairs(file) if not isinstance(pair, Triplet))
    require_difference(_alike(pairs), file)
    chosen = carve_dev_pairs([(pair.left, pair.right) for pair in pairs], config.seed)
    train = [pair for pair, is_dev in zip(pairs, chosen, strict=True) if not is_dev]
    dev = [pair for pair, is_dev in zip(pairs, chosen, strict=True) if is_dev]
    warnings = []
    n_repeated = len(pairs) - len(set(pairs))
    if n_repeated:
        warnings.append(f"{n_repeated} pairs repeat an earlier one")
    if len(dev) < LEAST_DEV or len({pair.score for pair in dev}) < 2 or len({pair.score for pair in train}) < 2:
        warnings.append(f"of {len(pairs)} pairs no dev could be carved that says anything: all are trained on")
        train, dev = list(pairs), []
    limit = config.finetune.max_train_queries
    if limit is not None and len(train) > limit:
        warnings.append(
            f"train pairs capped at {limit} of {len(train)} (max_train_queries), drawn by hash of their texts"
        )
        train = sorted(train, key=lambda pair: digest(config.seed, _pair_id(pair.left, pair.right)))[:limit]
    account = {"name": Path(file).name, "pairs": {"train": len(train), "dev": len(dev)}, "warnings": warnings}
    return PairMaterial(_alike(train), _alike(dev), account)


def carve_dev_pairs(texts: Sequence[tuple[str, str]], seed: int) -> list[bool]:
    """Per pair, whether it belongs to dev: about a tenth, by hash of their clusters, so that growth of the data moves
    few. A cluster larger than that tenth (one text that very many share, say) is trained on."""
    ids = [_pair_id(left, right) for left, right in texts]
    sides: dict[str, Group[str]] = {
        pair_id: {folded(left), folded(right)} for pair_id, (left, right) in zip(ids, texts, strict=True)
    }
    groups = [group for group in clusters(sides) if len(group) <= DEV_SHARE * len(sides)]
    dev = {pair_id for group in groups if uniform(seed, min(group)) < DEV_SHARE for pair_id in group}
    return [pair_id in dev for pair_id in ids]


def _pair_id(left: str, right: str) -> str:
    return hash_id(f"{left}\t{right}")


def _alike(pairs: Sequence[ScoredPair | LabelledPair]) -> JudgedPairs:
    """A file holds pairs of one kind only."""
    scored = tuple(pair for pair in pairs if isinstance(pair, ScoredPair))
    return scored or tuple(pair for pair in pairs if isinstance(pair, LabelledPair))
