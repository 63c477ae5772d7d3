"""An index whose lanes are weighted by dev queries, and one that is reranked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import english_world
from bessemer import open_index
from bessemer.config import Config
from bessemer.errors import ConfigError
from bessemer.recipes.evaluate import evaluate
from bessemer.recipes.index import index
from bessemer.recipes.search import search
from bessemer.recipes.summary import index_summary
from bessemer.search.fusion import weighted_fusion
from lane_models import write_cross_encoder

Configure = Callable[..., Config]
QUERY = "how a folder of files is listed"


def test_dev_queries_choose_the_weights(configure: Configure, tmp_path: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    config = configure(tmp_path, data=str(beir), index={"fusion_data": str(beir)})
    result = index(config)
    fusion = result["fusion"]
    opened = open_index(config.out)
    assert opened.manifest["fusion"] == fusion
    assert fusion["n_queries"] == 8
    assert fusion["unusable"] == 0
    text = index_summary(result)
    assert "on 8 dev queries: nDCG@10" in text
    assert max(map(len, text.splitlines()[1:-1])) <= 80
    assert index(configure(tmp_path, data=str(beir)))["fusion"] is None
    assert "fusion" not in open_index(config.out).manifest


def test_weights_decide_the_order_of_a_search(configure: Configure, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_world.write_beir(tmp_path / "beir")))
    index(config)
    manifest = Path(config.out, "manifest.json")
    written = json.loads(manifest.read_text(encoding="utf-8"))
    weights = {"dense": 1.0, "bm25": 0.25}
    manifest.write_text(json.dumps({**written, "fusion": {"weights": weights}}), encoding="utf-8")
    opened = open_index(config.out)
    [lanes] = opened.lanes([QUERY])
    expected = weighted_fusion([lanes["dense"], lanes["bm25"]], [1.0, 0.25])
    hits = opened.search(QUERY, 20)
    assert [(hit["passage_id"], hit["score"]) for hit in hits] == expected[:20]
    measured = evaluate(config, [f"served=index:{config.out}"])["systems"]["served"]["measures"]
    assert 0 < measured["nDCG@10"] <= 1
    with pytest.raises(ConfigError, match=r"--system s=index:.*nowhere: no finished index"):
        evaluate(config, [f"s=index:{tmp_path / 'nowhere'}"])


def test_queries_without_a_passage_here_are_counted_and_all_are_refused(configure: Configure, tmp_path: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    dev = beir / "qrels" / "dev.tsv"
    lines = dev.read_text(encoding="utf-8").splitlines()
    gone = lines[1].split("\t")[1]
    rows = [json.loads(line) for line in (beir / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = tmp_path / "kept"
    kept.mkdir()
    some = [row for row in rows if row["_id"] != gone]
    (kept / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    result = index(configure(tmp_path, data=str(kept), index={"fusion_data": str(beir)}))
    assert result["fusion"]["unusable"] >= 1
    assert result["fusion"]["n_queries"] + result["fusion"]["unusable"] == 8
    (kept / "corpus.jsonl").write_text('{"_id": "x", "text": "another text"}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="none of the 8 dev queries has a relevant passage in the index"):
        index(configure(tmp_path, data=str(kept), index={"fusion_data": str(beir)}))
    with pytest.raises(ConfigError, match="--fusion-data nowhere: no such file or folder"):
        index(configure(tmp_path, data=str(kept), index={"fusion_data": "nowhere"}))


def test_a_cross_encoder_orders_the_best_fifty(configure: Configure, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_world.write_beir(tmp_path / "beir")))
    index(config)
    folder = write_cross_encoder(tmp_path / "cross")
    hits = search(config, config.out, QUERY, 5, reranker=str(folder))
    plain = open_index(config.out).search(QUERY, 50)
    from bessemer.search.rerank import CrossEncoderReranker

    scores = CrossEncoderReranker(str(folder))([(QUERY, hit["text"]) for hit in plain])
    best = [plain[place]["passage_id"] for place in np.argsort(-scores, kind="stable")[:5]]
    assert [hit["passage_id"] for hit in hits] == best
    assert [hit["lanes"]["reranker"]["rank"] for hit in hits] == [1, 2, 3, 4, 5]
    assert hits[0]["score"] == hits[0]["lanes"]["reranker"]["score"] == pytest.approx(scores.max())
    with pytest.raises(ConfigError, match="no cross-encoder to be had"):
        search(config, config.out, QUERY, 5, reranker=str(tmp_path / "nowhere"))
