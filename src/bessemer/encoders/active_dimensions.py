"""How many dimensions sparse vectors use: what an inverted index stores and a search reads."""

from __future__ import annotations

from collections import Counter

import scipy.sparse as sp

from bessemer.encoders.encoder import Side


class ActiveDimensions:
    """Counts the entries of sparse rows per side, from one ``taken`` to the next."""

    def __init__(self) -> None:
        self._entries: Counter[Side] = Counter()
        self._texts: Counter[Side] = Counter()

    def count(self, rows: sp.csr_array, side: Side) -> None:
        self._entries[side] += rows.nnz
        self._texts[side] += rows.shape[0]

    def taken(self) -> dict[Side, float]:
        """The mean per text of each side that there were texts of; counting begins anew."""
        means = {side: self._entries[side] / n for side, n in self._texts.items() if n}
        self._entries.clear()
        self._texts.clear()
        return means
