"""Questions with their keywords, to fine-tune a small model on that needs no large one when people wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bessemer.config import Config
from bessemer.errors import ConfigError
from bessemer.formats.lines import write_jsonl
from bessemer.recipes.data import open_collection
from bessemer.recipes.generated import open_llm
from bessemer.recipes.output import claim_file
from bessemer.search.rewrite import WAYS, keywords_in

INSTRUCTION = "Keywords for a lexical search, with commas between:"


def keywords(config: Config, split: str, out: str) -> Mapping[str, Any]:
    """Ask the language model for the keywords of every query of ``split`` and write ``out``: JSONL in the chat format
    of fine-tuning services, ``{"messages": [system, user, assistant]}``. Queries without keywords in the answer are
    left out and counted. Raises ConfigError without a language model or without the split."""
    if config.data is None:
        raise ConfigError("keywords needs --data with queries")
    collection = open_collection(config).collection
    if split not in collection.splits:
        raise ConfigError(f"--split {split}: there are {', '.join(collection.splits)}")
    claim_file(out, "--out")
    queries = collection.splits[split].queries
    with open_llm(config) as llm:
        if llm is None:
            raise ConfigError("keywords needs a language model; give --llm URL and --llm-model NAME")
        replies = llm.ask([WAYS["keywords"](query.searched_text) for query in queries])
        calls = {"model": llm.model, **llm.ledger.account()}
    found = [(query.text, keywords_in(reply.text)) for query, reply in zip(queries, replies, strict=True)]
    rows = [_row(text, words) for text, words in found if words]
    write_jsonl(out, rows)
    return {"out": out, "rows": len(rows), "without_keywords": len(found) - len(rows), "llm": calls}


def _row(text: str, words: tuple[str, ...]) -> dict[str, Any]:
    said = (("system", INSTRUCTION), ("user", text), ("assistant", ", ".join(words)))
    return {"messages": [{"role": role, "content": content} for role, content in said]}
