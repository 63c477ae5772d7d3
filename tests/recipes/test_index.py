from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import english_world
from bessemer import open_index
from bessemer.config import Config
from bessemer.recipes.index import index

Configure = Callable[..., Config]


def test_index_again_encodes_only_what_changed(configure: Configure, tmp_path: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    config = configure(tmp_path, data=str(beir))
    first = index(config)
    assert (first["n_passages"], first["n_encoded"], first["n_reused"]) == (60, 60, 0)
    with (beir / "corpus.jsonl").open("a", encoding="utf-8") as corpus:
        corpus.write('{"_id": "new", "title": "", "text": "a wholly new passage on arguments and modules"}\n')
    second = index(config)
    assert (second["n_passages"], second["n_encoded"], second["n_reused"]) == (61, 1, 60)
    assert open_index(config.out).search("wholly new passage", 1)[0]["passage_id"] == "new"


def test_documents_without_splits(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text(f"# One\n\n{english_world.docstring_pairs()[0][2]}\n", encoding="utf-8")
    config = configure(tmp_path, source=str(tmp_path / "one.md"))
    assert index(config)["n_passages"] == 1
    hits = open_index(config.out).search("one", 5)
    assert [hit["doc_id"] for hit in hits] == ["one.md"]
    assert {"passage_id", "doc_id", "score", "text", "lanes"} <= hits[0].keys()
