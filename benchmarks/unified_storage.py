"""The section of unified.py on what is kept: what fewer bytes per passage cost in nDCG@10 on a real collection."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

PRECISIONS = ("float32", "float16", "bfloat16", "int8")
TOP_WEIGHTS = (256, 64, 32, 16)
MEASURE, DEPTH = "nDCG@10", 10
SET = "cranfield"


def storage(arguments: argparse.Namespace) -> dict[str, Any]:
    """nDCG@10 of the test queries of cranfield over all its passages, exact search, minilm with heads as they begin:
    by multi-vectors in each precision (queries and passages, as an index keeps them), and by sparse vectors of which
    the strongest weights of a text are kept. "changed": queries whose ten best differ from those of the first row,
    order included."""
    from bessemer.encoders.encoder import Encoded
    from bessemer.encoders.load import load_encoder
    from bessemer.encoders.sparse_start import with_heads
    from bessemer.formats.beir import read_beir
    from bessemer.search.max_sim import MultiVectorRetriever
    from bessemer.search.sparse import SparseRetriever, active_dimensions

    collection = read_beir(arguments.data / "beir" / SET).collection
    texts = [passage.indexed_text for passage in collection.passages]
    ids = [passage.passage_id for passage in collection.passages]
    judged = collection.splits["test"]
    encoder = with_heads(load_encoder("minilm", device="cpu"), texts, seed=0)
    encoder = encoder.with_settings(multi_vector_precision="float32", top_weights=TOP_WEIGHTS[0])
    lanes = ("sparse", "multi_vector")
    passages = encoder.encode_passages(texts, lanes)
    queries = encoder.encode_queries([query.searched_text for query in judged.queries], lanes)

    by_precision, by_weights = [], []
    for precision in PRECISIONS:
        kept, asked = (side.multi_vector.stored_as(precision) for side in (passages, queries))
        found = MultiVectorRetriever(encoder, ids, kept).search_encoded(Encoded(multi_vector=asked), DEPTH)
        by_precision.append(
            {
                "precision": precision,
                "bytes_per_passage": kept.n_bytes / len(ids),
                "hits": found,
                **measured(found, judged),
            }
        )
    for top_weights in TOP_WEIGHTS:
        kept, asked = (pruned(side.sparse, top_weights) for side in (passages, queries))
        found = SparseRetriever(encoder, ids, kept).search_encoded(Encoded(sparse=asked), DEPTH)
        n_bytes = (kept.data.nbytes + kept.indices.nbytes) / len(ids)
        by_weights.append(
            {
                "top_weights": top_weights,
                "weights_per_passage": active_dimensions(kept),
                "bytes_per_passage": n_bytes,
                "hits": found,
                **measured(found, judged),
            }
        )
    return {
        "set": SET,
        "passages": len(ids),
        "queries": len(judged.queries),
        "tokens_per_passage": len(passages.multi_vector.rows) / len(ids),
        "multi_vector": to_first(by_precision),
        "sparse": to_first(by_weights),
    }


def measured(found: list[Any], judged: Any) -> dict[str, float]:
    from bessemer.measures import per_query

    query_ids = [query.query_id for query in judged.queries]
    results = dict(zip(query_ids, found, strict=True))
    return {MEASURE: statistics.fmean(per_query(results, judged.qrels, query_ids, [MEASURE])[MEASURE].values())}


def pruned(rows: Any, top_weights: int) -> Any:
    """(n, V) with the strongest weights of each row, by the library's own rule."""
    import scipy.sparse as sp

    from bessemer.encoders.unified_outputs import sparse_rows

    ends = zip(rows.indptr, rows.indptr[1:], strict=False)
    one_by_one = [
        sparse_rows(rows.data[None, start:end], rows.indices[None, start:end], rows.shape[1], top_weights)[0]
        for start, end in ends
    ]
    return sp.csr_array(sp.vstack(one_by_one, format="csr"))


def to_first(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its difference to the first, and without its hits."""
    hits = [[[passage_id for passage_id, _ in one] for one in row.pop("hits")] for row in table]
    return [
        {
            **row,
            "difference": row[MEASURE] - table[0][MEASURE],
            "changed": sum(own != first for own, first in zip(ranked, hits[0], strict=True)),
        }
        for row, ranked in zip(table, hits, strict=True)
    ]
