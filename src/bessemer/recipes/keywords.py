"""Questions with their keywords, to fine-tune a small model on that needs no large one when people wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.config import Config
from bessemer.errors import ConfigError
from bessemer.formats.lines import write_jsonl
from bessemer.llm.request import Request
from bessemer.recipes.data import open_collection
from bessemer.recipes.generated import open_llm
from bessemer.recipes.output import claim_file
from bessemer.search.rewrite import keywords_in, keywords_reply, keywords_request


def keywords(config: Config, split: str, out: str, *, dry_run: bool = False) -> Mapping[str, Any]:
    """Ask the language model for the keywords of every query of ``split`` and write ``out``: JSONL in the chat format
    of fine-tuning services, ``{"messages": [system, user, assistant]}``: what ``ask --rewrite keywords`` sends, and
    what it reads. Queries without keywords in the answer are left out and counted. ``dry_run``: what that would take at
    most; nothing is asked or written. Raises ConfigError without a language model or without the split."""
    if config.data is None:
        raise ConfigError("keywords needs --data with queries")
    collection = open_collection(config).collection
    if split not in collection.splits:
        known = f"there are {', '.join(collection.splits)}" if collection.splits else "the data have no judged queries"
        raise ConfigError(f"--split {split}: {known}")
    if not dry_run:
        claim_file(out, "--out")
    requests = [keywords_request(query.searched_text) for query in collection.splits[split].queries]
    with open_llm(config, dry_run=dry_run) as llm:
        if llm is None:
            raise ConfigError("keywords needs a language model; give --llm URL and --llm-model NAME")
        if dry_run:
            return {"llm": llm.estimate(requests)}
        replies = llm.ask(requests)
        calls = {"model": llm.model, **llm.ledger.account()}
    found = [(request, keywords_in(reply.text)) for request, reply in zip(requests, replies, strict=True)]
    rows = [_row(request, words) for request, words in found if words]
    write_jsonl(out, rows)
    return {"out": out, "rows": len(rows), "without_keywords": len(found) - len(rows), "llm": calls}


def _row(request: Request, words: Sequence[str]) -> dict[str, Any]:
    said = {"system": request.system, "user": request.user, "assistant": keywords_reply(words)}
    return {"messages": [{"role": role, "content": content} for role, content in said.items()]}
