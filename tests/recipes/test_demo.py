from __future__ import annotations

import sys

from bessemer.config import Config, FinetuneConfig
from bessemer.recipes.demo import docstring_material


def test_docstring_material_is_split_by_module_without_the_query_in_its_passage() -> None:
    modules_before = set(sys.modules)
    material = docstring_material(Config())
    assert not {name for name in set(sys.modules) - modules_before if name.startswith("torch.")}  # parsed, not run
    collection = material.collection
    passages = {passage.passage_id: passage for passage in collection.passages}
    owners: dict[str, set[str]] = {}
    for split, judged in collection.splits.items():
        owners[split] = set()
        for query in judged.queries:
            (passage_id,) = judged.qrels[query.query_id]
            passage = passages[passage_id]
            owners[split].add(passage.doc_id)
            assert query.text not in " ".join(passage.indexed_text.split())
    assert not owners["train"] & owners["test"]
    assert not owners["train"] & owners["dev"]
    assert not owners["dev"] & owners["test"]
    assert len(passages) > 2000
    assert material.account["queries"] == {split: len(judged.queries) for split, judged in collection.splits.items()}
    assert sum(material.account["dropped"].values()) == len(material.dropped)
    fewer = docstring_material(Config(finetune=FinetuneConfig(max_train_queries=20))).account
    assert fewer["queries"] == {**material.account["queries"], "train": 20}
    assert fewer["warnings"][-1].startswith(f"train queries capped at 20 of {len(collection.splits['train'].queries)}")
