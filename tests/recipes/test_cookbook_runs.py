"""Every recipe of configs/ trains as it is written: on the small world of English, with small models of its kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import english_world
from bessemer.config import load_config
from bessemer.recipes.finetune import finetune
from lane_models import write_dense, write_sparse

ROOT = Path(__file__).parents[2]
TESTED_ELSEWHERE = {"gpl"}  # in test_gpl.py: it needs a language model
SLOW = {"splade"}  # each of its evaluations has the whole vocabulary for every token
FILES = [
    pytest.param(file, id=file.stem, marks=[pytest.mark.slow] if file.stem in SLOW else [])
    for file in sorted((ROOT / "configs").glob("*.yaml"))
    if file.stem not in TESTED_ELSEWHERE
]
STEPS = 3
TINY = {"matryoshka": {"finetune.matryoshka_dims": [8, 4]}, "chinese": {"finetune.max_length": 64}}
"""What a model of 16 dimensions that reads 64 tokens cannot have as the file has it."""


@pytest.mark.parametrize("file", FILES)
def test_a_recipe_of_the_cookbook_trains(file: Path, tmp_path: Path, english_beir: Path) -> None:
    write_model = write_sparse if file.stem == "splade" else write_dense
    config = load_config(
        file,
        {
            "model": str(write_model(tmp_path)),
            "device": "cpu",
            "workspace": str(tmp_path / "workspace"),
            "out": str(tmp_path / "tuned"),
            "evaluation.general": "none",
            "finetune.max_steps": STEPS,
            **TINY.get(file.stem, {}),
            **DATA.get(file.stem, judged)(tmp_path, english_beir),
        },
    )
    result = finetune(config)
    assert result["steps"] == STEPS
    assert result["loss_curve"]
    assert (tmp_path / "tuned" / "modules.json").exists()


def judged(folder: Path, beir: Path) -> dict[str, Any]:
    return {"data": str(beir)}


def scored(folder: Path, beir: Path) -> dict[str, Any]:
    """A query per docstring, its body and seven others as a teacher scored them."""
    pairs = english_world.docstring_pairs()
    rows = [
        {
            "query": summary,
            "pos": [body],
            "neg": [pairs[(i + k) % len(pairs)][2] for k in range(1, 8)],
            "teacher_scores": [9.0, *(k / 2 for k in range(7))],
        }
        for i, (_, summary, body) in enumerate(pairs)
    ]
    english_world.write_jsonl(folder / "scored.jsonl", rows)
    return {"data": str(folder / "scored.jsonl")}


def likenesses(folder: Path, beir: Path) -> dict[str, Any]:
    pairs = english_world.docstring_pairs()
    lines = [f"{summary}\t{pairs[i // 2][2]}\t{float(i % 2)}" for i, (_, summary, _) in enumerate(pairs)]
    (folder / "likenesses.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"data": str(folder / "likenesses.tsv")}


def three_tasks(folder: Path, beir: Path) -> dict[str, Any]:
    """The file's own entries, each with data of its own."""
    pairs = english_world.docstring_pairs()
    tasks = [dict(task) for task in load_config(ROOT / "configs" / "multi-task.yaml").model_dump()["tasks"]]
    for n, task in enumerate(tasks):
        rows = [{"query": s, "pos": [b], "neg": [pairs[(i + 1) % 60][2]]} for i, (_, s, b) in enumerate(pairs)][n::3]
        task["data"] = str(folder / f"{n}.jsonl")
        english_world.write_jsonl(folder / f"{n}.jsonl", rows)
    return {"tasks": tasks}


DATA: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "distillation": scored,
    "sts": likenesses,
    "multi-task": three_tasks,
}
