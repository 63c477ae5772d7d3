"""Prompts, aliases, batches of similar length, the thread pool, and light imports."""

from __future__ import annotations

import logging
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bessemer.encoders.prompts import ALIASES, TASKS, family_of, resolve_alias, task_prompts
from bessemer.encoders.runtime import ENCODED, Progress, is_out_of_memory, map_batches
from bessemer.encoders.tokens import length_batches
from bessemer.errors import ConfigError

BGE_EN_QUERY = "Represent this sentence for searching relevant passages: "


def test_task_prompts() -> None:
    assert task_prompts("qa").query == "Represent this query for retrieving relevant documents: "
    assert task_prompts("symmetric") == ("", "")
    with pytest.raises(ConfigError, match="known: qa, icl, chat"):
        task_prompts("quiz")
    assert all(prompt == "" or prompt[-1] in " ：" for prompts in TASKS.values() for prompt in prompts)


@pytest.mark.parametrize(
    ("name", "hub_id", "pooling", "query"),
    [
        ("bge-small-zh", "BAAI/bge-small-zh-v1.5", "cls", "为这个句子生成表示以用于检索相关文章："),
        ("BGE-large-en-v1.5", "BAAI/bge-large-en-v1.5", "cls", BGE_EN_QUERY),
        ("bge-m3", "BAAI/bge-m3", "cls", ""),
        ("multilingual-e5-base", "intfloat/multilingual-e5-base", "mean", "query: "),
        ("gte-large-zh", "thenlper/gte-large-zh", "cls", ""),
        ("jina-v2-en", "jinaai/jina-embeddings-v2-base-en", "mean", ""),
    ],
)  # fmt: skip
def test_aliases(name: str, hub_id: str, pooling: str, query: str) -> None:
    assert resolve_alias(name) == hub_id
    family = family_of(hub_id)
    assert family is not None
    assert (family.pooling, family.prompts.query) == (pooling, query)


def test_every_alias_has_a_family_and_other_names_pass() -> None:
    assert all(family_of(hub_id) for hub_id in ALIASES.values())
    assert resolve_alias("someone/else") == "someone/else"
    assert family_of("sentence-transformers/all-MiniLM-L6-v2") is None
    assert family_of("models/bge-small-en-v1.5-tuned") is None


@given(st.lists(st.integers(0, 300), max_size=200), st.integers(1, 1000))
def test_length_batches(lengths: list[int], max_tokens: int) -> None:
    batches = [rows.tolist() for rows in length_batches(lengths, max_tokens)]
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= max_tokens for rows in batches)
    flat = [lengths[row] for rows in batches for row in rows]
    assert flat == sorted(lengths, reverse=True)


def test_map_batches_keeps_order_and_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        inside = list(map_batches(lambda i: (i, torch.get_num_threads()), list(range(50)), "cpu"))
        assert inside == [(i, 1) for i in range(50)]
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            list(map_batches(lambda i: 1 // (i - 20), list(range(50)), "cpu"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, max allowed: 9.07 GB)."), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_whose_allocator_it_may_be_that_has_nothing_left(error: RuntimeError, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_progress_tells_the_time_left_of_what_costs_time(caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress(1000, ENCODED["query"], interval=0.0)
    with caplog.at_level(logging.INFO):
        progress.skip(500)
        time.sleep(0.01)
        progress.update(100)
        progress.update(400)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("encoded 600 of 1000 queries, ")


def test_imports_stay_light() -> None:
    modules = ", ".join(f"bessemer.encoders.{name}" for name in ("encoder", "prompts", "runtime", "cache"))
    code = f"import sys, {modules}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'tokenizers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
