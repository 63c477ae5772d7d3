"""Losses: one file each, with paper, shapes and an arithmetic test by hand."""

from bessemer.training.losses.info_nce import info_nce

__all__ = ["info_nce"]
