"""`finetune` on data with teacher scores: a real model that follows its teacher, and what is told or refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import english_world
from bessemer.config import Config
from bessemer.encoders.load import load_encoder
from bessemer.errors import DataError
from bessemer.recipes.adapt import adapt
from bessemer.recipes.finetune import finetune

Configure = Callable[..., Config]
N_CANDIDATES = 5


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{2,}", text.lower()))


def scored_rows(n: int, **columns: Any) -> list[dict[str, Any]]:
    """Summary lines of docstrings with the bodies of five, which a teacher scores by the rarer words they share: the
    longer, the rarer."""
    pairs = english_world.docstring_pairs()
    rows = []
    for i in range(n):
        summary = pairs[i][1]
        bodies = [pairs[(i + 7 * j) % len(pairs)][2] for j in range(N_CANDIDATES)]
        scores = [float(sum(len(word) for word in words(summary) & words(body))) for body in bodies]
        rows.append({"query": summary, "pos": [], "neg": bodies, "teacher_scores": scores, **columns})
    return rows


def judged_rows(n: int) -> list[dict[str, Any]]:
    """The same with the first body as the positive."""
    return [{**row, "pos": row["neg"][:1], "neg": row["neg"][1:]} for row in scored_rows(n)]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    english_world.write_jsonl(path, rows)
    return str(path)


def agreement(model: str, rows: Sequence[Mapping[str, Any]]) -> float:
    """Of the pairs of candidates that the teacher tells apart, the share that the model orders alike."""
    encoder = load_encoder(model, device="cpu", bf16=False)
    right = []
    for row in rows:
        teacher = np.array(row["teacher_scores"])
        student = encoder.encode(row["neg"], "passage") @ encoder.encode([row["query"]], "query")[0]
        apart = teacher[:, None] > teacher
        right += (student[:, None] > student)[apart].tolist()
    return float(np.mean(right))


def test_minilm_comes_to_rank_as_its_teacher_does(configure: Configure, tmp_path: Path) -> None:
    rows = scored_rows(8)
    finetuning = {"loss": "distillation", "n_negatives": 4, "max_steps": 5, "learning_rate": 3e-4, "max_length": 32}
    finetuning |= {"per_device_train_batch_size": "auto"}
    config = configure(tmp_path, data=write(tmp_path / "rows.jsonl", rows), model="minilm", finetune=finetuning)
    result = finetune(config)
    before = agreement("minilm", rows)
    assert agreement(config.out, rows) > before + 0.1
    assert "8 queries have no relevant passage: the teacher's best candidate stands for it" in result["notes"]
    assert any(note.startswith("teacher temperature ") and " of 5" in note for note in result["notes"])
    assert any(
        note.endswith("texts are longer than the model reads; the rest of them was cut") for note in result["notes"]
    )


def test_asked_for_without_scores_it_names_the_fix_before_anything_is_mined(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    plain = write(tmp_path / "plain.jsonl", [{**row, "teacher_scores": None} for row in judged_rows(6)])
    fix = "learns from them; add scores with `bessemer teacher`, or choose another --loss"
    config = configure(tmp_path, data=str(english_beir), finetune={"loss": "distillation"})
    with pytest.raises(DataError) as error:
        finetune(config)
    assert str(error.value) == f"{english_beir}:-:teacher_scores: no train query has any, and `distillation` {fix}"
    assert not list((tmp_path / "workspace").rglob("manifest.json"))
    tasks = [{"data": str(english_beir), "loss": "margin_mse"}, {"data": plain, "loss": "stable_distillation"}]
    with pytest.raises(DataError) as error:
        finetune(configure(tmp_path, tasks=tasks))
    assert str(error.value).splitlines() == [
        f"{english_beir} ({english_beir.name}):-:teacher_scores: no train query has any, and `margin_mse` {fix}",
        f"{plain} (plain.jsonl):-:teacher_scores: no train query has any, and `stable_distillation` {fix}",
    ]


def test_queries_without_scores_are_counted_and_trained_by_info_nce_or_refused(
    configure: Configure, tmp_path: Path
) -> None:
    rows = judged_rows(12)
    rows[3:6] = [{**row, "teacher_scores": None} for row in rows[3:6]]
    data = write(tmp_path / "rows.jsonl", rows)
    finetuning = {"loss": "distillation", "n_negatives": 4, "max_steps": 2}
    notes = finetune(configure(tmp_path, data=data, finetune=finetuning))["notes"]
    (counted,) = [note for note in notes if "no teacher score of their positive: trained by InfoNCE alone" in note]
    n, n_examples = (int(number) for number in re.findall(r"\d+", counted))
    assert (1 <= n <= 3, 8 <= n_examples <= 10) == (True, True)  # the splits took the others
    with pytest.raises(DataError) as error:
        finetune(configure(tmp_path, data=data, finetune={**finetuning, "info_nce_weight": 0}))
    assert len(error.value.problems) == n
    assert "add it, or give info_nce_weight more than 0" in str(error.value)


def test_scores_that_the_loss_does_not_use_are_told(configure: Configure, tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", judged_rows(12))
    result = finetune(configure(tmp_path, data=data, finetune={"max_steps": 2}))
    n = result["data"]["queries"]["train"]
    unused = f"the teacher scores of {n} queries are not used: `info_nce` learns from judgements alone"
    assert unused in result["notes"]
    config = configure(tmp_path / "adapt", data=data, finetune={"max_steps": 2})
    assert "teacher scores of 12 queries are not used: finetune uses them" in adapt(config)["data"]["warnings"]


def test_a_loss_for_each_task_and_rows_that_name_their_tasks(configure: Configure, tmp_path: Path) -> None:
    chat = write(tmp_path / "chat.jsonl", scored_rows(10))
    plain = write(tmp_path / "plain.jsonl", [{**row, "teacher_scores": None} for row in judged_rows(10)])
    tasks = [
        {"data": chat, "task": "chat", "loss": "stable_distillation", "teacher_temperature": 5, "n_negatives": 4},
        {"data": plain, "task": "qa"},
    ]
    notes = finetune(configure(tmp_path, tasks=tasks, finetune={"max_steps": 4}))["notes"]
    assert any(note.startswith("chat.jsonl: teacher temperature 5 (as asked)") for note in notes)

    rows = [*scored_rows(8, task="chat"), *({**row, "task": "lrlm"} for row in scored_rows(16)[8:])]
    mixed = write(tmp_path / "mixed.jsonl", rows)
    finetuning = {"loss": "distillation", "n_negatives": 4, "max_steps": 4}
    notes = finetune(configure(tmp_path / "mixed", data=mixed, finetune=finetuning))["notes"]
    best = "8 queries have no relevant passage: the teacher's best candidate stands for it"
    assert {f"{task}: {best}" for task in ("chat", "lrlm")} <= set(notes)
