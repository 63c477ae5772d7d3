"""Prompts per task, and the model families whose pooling and prompts are known by name. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bessemer.errors import ConfigError

Pooling = Literal["cls", "mean", "lasttoken"]


class Prompts(NamedTuple):
    """Text put before every query and every passage. The trailing space belongs to the prompt."""

    query: str
    passage: str


BGE_ZH_QUERY = "为这个句子生成表示以用于检索相关文章："

TASKS: dict[str, Prompts] = {
    "qa": Prompts(
        "Represent this query for retrieving relevant documents: ",
        "Represent this document for retrieval: ",
    ),
    "icl": Prompts(
        "Convert this example into vector to look for useful examples: ",
        "Convert this example into vector for retrieval: ",
    ),
    "chat": Prompts(
        "Embed this dialogue to find useful historical dialogues: ",
        "Embed this historical dialogue for retrieval: ",
    ),
    "lrlm": Prompts(
        "Embed this text chunk for finding useful historical chunks: ",
        "Embed this historical text chunk for retrieval: ",
    ),
    "tool": Prompts(
        "Transform this user request for fetching helpful tool descriptions: ",
        "Transform this tool description for retrieval: ",
    ),
    "convsearch": Prompts(
        "Encode this query and context for searching relevant passages: ",
        "Encode this passage for retrieval: ",
    ),
    "asymmetric-zh": Prompts(BGE_ZH_QUERY, ""),
    "symmetric": Prompts("", ""),
}
"""Task -> prompts (LLM-Embedder, arXiv 2310.07554; BGE v1.5). They apply only when a task is named."""


def task_prompts(task: str) -> Prompts:
    """The prompts of a named task. Raises ConfigError listing the known tasks."""
    try:
        return TASKS[task]
    except KeyError:
        raise ConfigError(f"unknown task `{task}`; known: {', '.join(TASKS)}") from None


NO_PROMPTS = Prompts("", "")


@dataclass(frozen=True, slots=True)
class Family:
    """Models that share pooling and prompts, recognised by the last part of their name or folder."""

    pattern: str
    pooling: Pooling
    prompts: Prompts = NO_PROMPTS
    padding_side: Literal["left", "right"] = "right"


_WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"

FAMILIES: tuple[Family, ...] = (  # the first pattern that matches wins
    Family(
        r"bge-(small|base|large)-en(-v1\.5)?",
        "cls",
        Prompts("Represent this sentence for searching relevant passages: ", ""),
    ),
    Family(r"bge-(small|base|large)-zh(-v1\.5)?", "cls", Prompts(BGE_ZH_QUERY, "")),
    Family(r"bge-m3", "cls"),
    Family(r"multilingual-e5-large-instruct", "mean", Prompts(_WEB_SEARCH + " ", "")),
    Family(r"(multilingual-)?e5-(small|base|large)(-v2)?", "mean", Prompts("query: ", "passage: ")),
    Family(r"gte-(small|base|large|tiny)", "mean"),
    Family(r"gte-(small|base|large)-zh", "cls"),
    Family(r"gte-(base|large)-en-v1\.5|gte-multilingual-base|gte-modernbert-base", "cls"),
    Family(r"gte-qwen2-[\d.]+b-instruct", "lasttoken", Prompts(_WEB_SEARCH + " ", ""), "left"),
    Family(r"jina-embeddings?-v2-.+", "mean"),
    Family(
        r"jina-embeddings-v3",
        "mean",
        Prompts(
            "Represent the query for retrieving evidence documents: ",
            "Represent the document for retrieval: ",
        ),
    ),
    Family(r"qwen3-embedding-[\d.]+b", "lasttoken", Prompts(_WEB_SEARCH, ""), "left"),
)

ALIASES: dict[str, str] = {
    **{
        f"bge-{size}-{language}": f"BAAI/bge-{size}-{language}-v1.5"
        for size in ("small", "base", "large")
        for language in ("en", "zh")
    },
    "bge-m3": "BAAI/bge-m3",
    **{f"e5-{size}": f"intfloat/e5-{size}-v2" for size in ("small", "base", "large")},
    **{f"multilingual-e5-{size}": f"intfloat/multilingual-e5-{size}" for size in ("small", "base", "large")},
    **{f"gte-{size}": f"thenlper/gte-{size}" for size in ("small", "base", "large")},
    **{f"gte-{size}-zh": f"thenlper/gte-{size}-zh" for size in ("small", "base", "large")},
    "gte-modernbert": "Alibaba-NLP/gte-modernbert-base",
    "jina-v2-en": "jinaai/jina-embeddings-v2-base-en",
    "jina-v2-zh": "jinaai/jina-embeddings-v2-base-zh",
    "jina-v3": "jinaai/jina-embeddings-v3",
    **{f"qwen3-embedding-{size}": f"Qwen/Qwen3-Embedding-{size.upper()}" for size in ("0.6b", "4b", "8b")},
}
"""Short name -> hub id."""

_SHORT_OF_FULL = {hub_id.rsplit("/", 1)[1].lower(): hub_id for hub_id in ALIASES.values()}


def resolve_alias(name: str) -> str:
    """The hub id of a short name (``bge-small-en``, ``bge-small-en-v1.5``), any other name unchanged."""
    return ALIASES.get(name.lower()) or _SHORT_OF_FULL.get(name.lower(), name)


def is_alias(name: str) -> bool:
    """Whether ``name`` stands for a model, whatever folder of that name there is."""
    return name == "minilm" or resolve_alias(name) != name


def family_of(name: str) -> Family | None:
    """The family of a hub id or model folder, by its last part, or None."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()
    return next((family for family in FAMILIES if re.fullmatch(family.pattern, last)), None)
