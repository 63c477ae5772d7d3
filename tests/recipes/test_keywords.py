"""Training data for a small keyword model, from a scripted language model over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bessemer.config import Config
from bessemer.formats import load_collection
from bessemer.recipes.keywords import keywords
from bessemer.recipes.summary import keywords_summary
from scripted_llm import Answer, chat, serving

Configure = Callable[..., Config]


def test_keywords_to_fine_tune_on(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    def script(request: dict[str, Any], number: int) -> Answer:
        return chat("[]" if number == 0 else '["alpha", "beta gamma"]')

    out = tmp_path / "keywords.jsonl"
    with serving(script) as server:
        config = configure(tmp_path, data=str(english_beir), llm={"url": server.url, "model": "m", "concurrency": 1})
        n_train = len(load_collection(str(english_beir)).collection.splits["train"].queries)
        assert keywords(config, "train", str(tmp_path / "no" / "folder"), dry_run=True)["llm"]["calls"] == n_train
        assert server.requests == []
        assert not (tmp_path / "no").exists()
        result = keywords(config, "train", str(out))
        assert len(server.requests) == n_train
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert (len(rows), result["rows"], result["without_keywords"]) == (n_train - 1, n_train - 1, 1)
    for row, request in zip(rows, server.requests[1:], strict=True):
        assert row["messages"][:2] == request["messages"]  # what ask --rewrite keywords sends
        assert row["messages"][2] == {"role": "assistant", "content": '["alpha", "beta gamma"]'}
    assert "1 queries without keywords" in keywords_summary(result)
