"""Connected components: what hangs together by what it shares."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray


def components(members: Sequence[Collection[Hashable]]) -> NDArray[np.int64]:
    """(n,) the component of each item, numbered from 0 as they come: two items with a member in common are in one, and
    so is all that such a chain joins. An item without members stands alone."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    nodes = {member: node for node, member in enumerate(dict.fromkeys(m for some in members for m in some))}
    rows = np.repeat(np.arange(len(members)), [len(some) for some in members])
    columns = np.fromiter((len(members) + nodes[m] for some in members for m in some), np.int64, len(rows))
    n_nodes = len(members) + len(nodes)
    graph = sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n_nodes, n_nodes))
    labels = connected_components(graph, directed=False)[1][: len(members)]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)
