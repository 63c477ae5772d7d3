"""Several tasks in one training: their data, prompts, settings, and what the saved model knows of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import english_world
from bessemer.config import Config, FinetuneConfig
from bessemer.encoders.load import load_encoder
from bessemer.encoders.prompts import TASKS
from bessemer.errors import ArtifactError, ConfigError
from bessemer.recipes.adapt import adapt
from bessemer.recipes.evaluate import evaluate
from bessemer.recipes.finetune import finetune
from bessemer.recipes.index import index
from bessemer.recipes.tasks import load_parts, unused_tasks
from bessemer.search.index import open_index
from bessemer.types import Judged, Query

Configure = Callable[..., Config]


def jsonl(path: Path, *, n: int, task: str = "", start: int = 0) -> Path:
    pairs = english_world.docstring_pairs()[start : start + n]
    rows = [
        {"query": summary, "pos": [body], "neg": [], **({"task": task} if task else {})} for _, summary, body in pairs
    ]
    english_world.write_jsonl(path, rows)
    return path


@pytest.fixture(scope="session")
def two_tasks(tmp_path_factory: pytest.TempPathFactory, configure: Configure, english_beir: Path) -> tuple[Config, Any]:
    """A BEIR folder as qa, in batches of 8, and ten rows as a task of the user's own."""
    root = tmp_path_factory.mktemp("two_tasks")
    tasks = [
        {"data": str(english_beir), "task": "qa", "per_device_train_batch_size": 8, "max_length": 32},
        {"data": str(jsonl(root / "faq.jsonl", n=10)), "task": "faq", "name": "questions", "loss": "mochi"},
    ]
    prompts = {"faq": {"query": "value of ", "passage": "return the "}}
    config = configure(root, tasks=tasks, prompts=prompts)
    return config, finetune(config)


def test_tasks_train_together(two_tasks: tuple[Config, Mapping[str, Any]]) -> None:
    config, result = two_tasks
    assert result == json.loads((Path(config.out) / "training.json").read_text(encoding="utf-8"))
    assert [task["name"] for task in result["data"]["tasks"]] == [Path(config.tasks[0].data).name, "questions"]
    assert any(note.startswith("questions: batch size") for note in result["notes"])
    for point in result["dev_curve"][1:]:
        assert {"step", "nDCG@10", f"nDCG@10 {Path(config.tasks[0].data).name}"} <= point.keys()


def test_prompts_of_all_tasks_are_saved_and_open_in_sentence_transformers(
    two_tasks: tuple[Config, Mapping[str, Any]],
) -> None:
    config, _ = two_tasks
    plain = SentenceTransformer(config.out, device="cpu")
    assert plain.prompts["qa_query"] == TASKS["qa"].query
    assert plain.prompts["faq_document"] == "return the "
    assert plain.prompts["query"] == plain.prompts["document"] == ""
    ours = load_encoder(config.out, device="cpu")
    assert set(ours.task_prompts) == {"qa", "faq"}
    texts = ["parse arguments", "open a file"]
    prompted = ours.for_task("faq").encode(texts, "query")
    assert np.abs(prompted - plain.encode(texts, prompt_name="faq_query")).max() < 1e-6
    assert np.abs(prompted - ours.encode(texts, "query")).max() > 1e-3
    assert ours.for_task("unknown") is ours


def test_evaluate_and_search_take_the_prompts_of_the_task(
    two_tasks: tuple[Config, Mapping[str, Any]], tmp_path: Path, english_beir: Path
) -> None:
    config, _ = two_tasks
    asked = config.model_copy(update={"data": str(english_beir), "tasks": ()})
    named = asked.model_copy(update={"task": "qa"})
    systems = ["base=dense:" + config.model, "tuned=dense:" + config.out]
    without, with_task = evaluate(asked, systems)["systems"], evaluate(named, systems)["systems"]
    assert without["base"]["measures"] == with_task["base"]["measures"]  # the base has no prompts of its own
    assert without["tuned"]["measures"] != with_task["tuned"]["measures"]

    folder = tmp_path / "index"
    index(named.model_copy(update={"model": config.out, "out": str(folder)}))
    assert open_index(folder).search("parse arguments", 3) == open_index(folder, task="qa").search("parse arguments", 3)
    with pytest.raises(ArtifactError, match="built for the task qa, not for faq"):
        open_index(folder, task="faq")
    with pytest.raises(ConfigError, match="was not trained with prompts for it; it has: none"):
        index(named.model_copy(update={"out": str(tmp_path / "other")}))


def test_one_task_s_prompts_become_the_model_s_own(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    finetune(configure(tmp_path, data=str(english_beir), task="tool"))
    plain = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert (plain.prompts["query"], plain.prompts["document"]) == TASKS["tool"]
    texts = ["parse arguments"]
    ours = load_encoder(str(tmp_path / "out"), device="cpu")
    assert np.abs(ours.encode(texts, "query") - plain.encode_query(texts)).max() < 1e-6


def test_rows_that_name_their_task_train_in_batches_of_one_task(configure: Configure, tmp_path: Path) -> None:
    rows = [jsonl(tmp_path / f"{task}.jsonl", n=12, task=task, start=s) for task, s in (("qa", 0), ("tool", 12))]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text("".join(path.read_text(encoding="utf-8") for path in rows), encoding="utf-8")
    config = configure(tmp_path, data=str(mixed))
    parts = load_parts(config)
    assert [(part.name, part.task) for part in parts] == [("qa", "qa"), ("tool", "tool")]
    texts = [{p.indexed_text for p in part.material.collection.passages} for part in parts]
    assert not texts[0] & texts[1]  # no negatives from the other task's corpus
    result = finetune(config)
    assert set(SentenceTransformer(str(tmp_path / "out"), device="cpu").prompts) >= {"qa_query", "tool_query"}
    assert result["examples"] > 0


def test_a_task_named_by_the_data_alone_without_prompts_is_told(configure: Configure, tmp_path: Path) -> None:
    result = finetune(configure(tmp_path, data=str(jsonl(tmp_path / "rows.jsonl", n=12, task="poems"))))
    assert "task poems: no prompts are known for it, the model's own were used" in result["data"]["warnings"]


def test_bad_tasks_are_refused(configure: Configure, tmp_path: Path) -> None:
    rows = str(jsonl(tmp_path / "rows.jsonl", n=4))
    with pytest.raises(ConfigError, match=r"task poems: no such task; known: qa, icl, .*Add your own under `prompts`"):
        finetune(configure(tmp_path, data=rows, task="poems"))
    with pytest.raises(ConfigError, match=r"rows.jsonl stands twice; give each a `name`"):
        finetune(configure(tmp_path, tasks=[{"data": rows}, {"data": rows}]))
    with pytest.raises(ConfigError, match="or `tasks` in --config; not both"):
        finetune(configure(tmp_path, data=rows, tasks=[{"data": rows}]))


@pytest.mark.parametrize(
    ("common", "loss", "message"),
    [
        ({"head": "unified"}, "mochi", "loss mochi: head unified trains by info_nce or distillation"),
        ({"head": "unified"}, "margin_mse", "loss margin_mse: head unified trains by info_nce or distillation"),
        ({"frozen_passages": True}, "triplet", "leave exclude_same_document and loss triplet out"),
    ],
)
def test_a_task_s_settings_are_checked_with_those_of_the_run(
    common: dict[str, Any], loss: str, message: str, configure: Configure, tmp_path: Path
) -> None:
    """The task that is at fault stands last: nothing was read before it was refused."""
    tasks = [{"data": "nowhere"}, {"data": "elsewhere", "name": "faq", "loss": loss}]
    config = configure(tmp_path, tasks=tasks, finetune=common)
    with pytest.raises(ConfigError, match=rf"^tasks: faq: .*{message}; change its loss, or the finetune section$"):
        load_parts(config)
    assert config.tasks[1].settings(FinetuneConfig(bf16=False)) == FinetuneConfig(bf16=False, loss=loss)


def test_a_single_entry_keeps_its_own_settings(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    task = {"data": str(english_beir), "task": "qa", "loss": "hardness", "temperature": 0.5}
    small = {**task, "per_device_train_batch_size": 4}
    found = [
        finetune(configure(tmp_path / name, tasks=[entry]))
        for name, entry in (("own", small), ("loss", task), ("plain", {"data": str(english_beir), "task": "qa"}))
    ]
    assert [result["batch_size"] for result in found] == [4, 24, 24]
    first = [result["loss_curve"][0]["loss"] for result in found[1:]]
    assert first[0] != pytest.approx(first[1], rel=0.01)


def test_adapt_tunes_one_task_and_says_what_it_leaves_out(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="tasks: adapt tunes one task; run finetune for several"):
        adapt(configure(tmp_path, data=str(english_beir), tasks=[{"data": str(english_beir)}]))
    named = [Query(f"q{i}", "text", task=task) for i, task in enumerate(["qa", "tool", "qa", ""])]
    judged = Judged(tuple(named), {})
    (warning,) = unused_tasks(judged, Config())
    assert warning.startswith("train queries name tasks, qa (2), tool (1): they train together without prompts")
    assert unused_tasks(judged, Config(task="qa")) == unused_tasks(Judged(tuple(named[3:]), {}), Config()) == []


def test_frozen_passages_keep_the_prompts_of_one_task(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    frozen = {"frozen_passages": True, "max_steps": 2, "max_length": 32, "query_max_length": 16}
    finetune(configure(tmp_path, data=str(english_beir), task="tool", finetune=frozen))
    saved = load_encoder(str(tmp_path / "out"), device="cpu")
    assert saved.task_prompts["tool"] == TASKS["tool"]
    assert (saved.query_prompt, saved.passage_prompt) == TASKS["tool"]
    tasks = [{"data": str(english_beir), "task": "qa"}, {"data": str(jsonl(tmp_path / "rows.jsonl", n=10))}]
    with pytest.raises(ConfigError, match="--frozen-passages: a model of two towers keeps the prompts of one task"):
        finetune(configure(tmp_path / "two", tasks=tasks, finetune=frozen))
