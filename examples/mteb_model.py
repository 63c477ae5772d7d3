"""A model under MTEB, on a judged collection of your own: python mteb_model.py MODEL COLLECTION"""

import sys
from typing import Any

import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from bessemer import load_collection
from bessemer.clients.mteb import BessemerEncoder

model, folder = sys.argv[1:]


class OwnCollection(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name="OwnCollection",
        description="Questions on documents of our own.",
        type="Retrieval",
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        dataset={"path": folder, "revision": "local"},
    )

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        collection = load_collection(folder).collection
        judged = collection.splits["test"]
        self.dataset = {
            "default": {
                "test": {
                    "corpus": Dataset.from_list(
                        [{"id": p.passage_id, "title": p.title, "text": p.text} for p in collection.passages]
                    ),
                    "queries": Dataset.from_list([{"id": q.query_id, "text": q.text} for q in judged.queries]),
                    "relevant_docs": {query: dict(found) for query, found in judged.qrels.items()},
                    "top_ranked": None,
                }
            }
        }
        self.data_loaded = True


# MTEB's own tasks, which it downloads: mteb.get_tasks(tasks=["SciFact"])
result = mteb.evaluate(BessemerEncoder(model), OwnCollection(), cache=None, show_progress_bar=False)
print(f"{result.model_name}: nDCG@10 {result.task_results[0].get_score():.6f}")
