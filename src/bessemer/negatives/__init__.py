"""Hard negatives: candidates, strategies, denoising. Everything by passage id, seeded, in bounded memory."""

from bessemer.negatives.candidates import Corpus
from bessemer.negatives.denoise import suspected_share
from bessemer.negatives.mine import Mined, MiningReport, drawn, mine_from, mine_hard_negatives
from bessemer.negatives.strategies import require_known

__all__ = [
    "Corpus",
    "Mined",
    "MiningReport",
    "drawn",
    "mine_from",
    "mine_hard_negatives",
    "require_known",
    "suspected_share",
]
