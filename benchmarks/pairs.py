"""What peers train on, from a collection of ours."""

from __future__ import annotations

from bessemer.types import Collection


def relevant_pairs(collection: Collection) -> list[tuple[str, str]]:
    """(query, relevant passage) texts of the train split, in the order of the data."""
    texts = {passage.passage_id: passage.indexed_text for passage in collection.passages}
    train = collection.splits["train"]
    return [
        (query.text, texts[passage_id])
        for query in train.queries
        for passage_id, grade in train.qrels.get(query.query_id, {}).items()
        if grade > 0 and passage_id in texts
    ]
