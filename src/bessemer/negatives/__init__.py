"""Hard negatives: candidates, strategies, denoising. Everything by passage id, seeded, in bounded memory."""

from bessemer.negatives.denoise import suspected_share
from bessemer.negatives.mine import Mined, MiningReport, drawn, mine_hard_negatives

__all__ = ["Mined", "MiningReport", "drawn", "mine_hard_negatives", "suspected_share"]
