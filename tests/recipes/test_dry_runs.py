"""A dry run says what is done and what is to run, and leaves the disk as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bessemer.config import Config
from bessemer.errors import ConfigError, DataError
from bessemer.formats.lines import write_jsonl
from bessemer.recipes.evaluate import evaluate, plan_evaluate
from bessemer.recipes.finetune import finetune
from bessemer.recipes.finetune_plan import plan_finetune
from bessemer.recipes.index import index, plan_index
from bessemer.recipes.negatives import negatives, plan_negatives
from bessemer.recipes.plan import plan_summary
from bessemer.training.checkpoints import STATE_FILE
from lane_models import write_sparse

Configure = Callable[..., Config]


def tree(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def states(plan: dict[str, Any]) -> dict[str, str]:
    return {step["step"]: step["state"] for step in plan["steps"]}


def n_lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_finetune_before_between_and_after(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir))
    first = plan_finetune(config)
    assert list(tmp_path.iterdir()) == []
    assert states(first) == {"negatives": "to run", "model": "to run"}
    mining, model = first["steps"]
    n_queries = len(
        {line.split("\t")[0] for line in (english_beir / "qrels" / "train.tsv").read_text().splitlines()[1:]}
    )
    assert mining["encoding"] == {"passages": n_lines(english_beir / "corpus.jsonl"), "queries": n_queries, "kept": 0}
    assert mining["seconds"] > 0
    assert model["seconds"] > mining["seconds"]
    assert first["llm_cost"] == 0.0

    finetune(config)
    left = tree(tmp_path)
    assert states(plan_finetune(config)) == {"negatives": "cached", "model": "cached"}
    assert states(plan_finetune(config, resume=False)) == {"negatives": "cached", "model": "to run"}
    other = config.model_copy(update={"finetune": config.finetune.model_copy(update={"max_steps": 9})})
    assert states(plan_finetune(other)) == {"negatives": "cached", "model": "to run"}
    assert tree(tmp_path) == left

    (folder,) = (tmp_path / "workspace" / "steps").glob("model-*")
    (folder / "manifest.json").unlink()
    for number in (4, 8):
        checkpoint = folder / "work" / "checkpoints" / f"checkpoint-{number}"
        checkpoint.mkdir(parents=True)
        (checkpoint / STATE_FILE).write_text("{}" if number == 4 else "{", encoding="utf-8")  # killed while at the 8th
    interrupted = plan_finetune(config)
    assert interrupted["steps"][-1]["done"] == 4
    assert "goes on from step 4; at most about" in plan_summary(interrupted)


def test_pairs_have_no_negatives_to_find(configure: Configure, tmp_path: Path) -> None:
    file = tmp_path / "sts.tsv"
    file.write_text("".join(f"parse argument {n}\tread argument {n}\t{n % 6}\n" for n in range(60)), encoding="utf-8")
    plan = plan_finetune(configure(tmp_path, data=str(file), finetune={"loss": "cosent", "max_steps": 2}))
    assert states(plan) == {"model": "to run"}
    assert plan["steps"][0]["seconds"] > 0


def test_negatives(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir))
    out = str(tmp_path / "negatives.jsonl")
    plan = plan_negatives(config, "train", out)
    assert list(tmp_path.iterdir()) == []
    assert f"nothing was written to {out}" in plan_summary(plan)
    negatives(config, "train", out)
    again = plan_negatives(config, "train", out)["steps"][0]
    assert again["encoding"]["kept"] == again["encoding"]["passages"] + again["encoding"]["queries"] > 0
    assert again["seconds"] == 0.0
    assert states(plan_negatives(config, "train", out, gradients=True)) == {
        "negatives": "to run",
        "gradients": "to run",
    }


def test_evaluate_says_which_systems_have_their_vectors(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    config = configure(tmp_path, data=str(english_beir))
    name = "a-system-with-a-long-name"
    systems = ["bm25=bm25", f"{name}=dense:{config.model}", f"h=hybrid:bm25+{name}"]
    evaluate(config, systems[:2])
    left = tree(tmp_path)
    first, second, third = plan_evaluate(config, systems, "test")["steps"]
    assert second["encoding"]["kept"] == second["encoding"]["passages"] + second["encoding"]["queries"]
    assert "encoding" not in first
    assert "encoding" not in third
    on_dev = plan_evaluate(config, systems, "dev")
    found = on_dev["steps"][1]["encoding"]
    assert found["kept"] == found["passages"]  # the queries of dev are new
    assert tree(tmp_path) == left
    assert f"{name}  to run" in plan_summary(on_dev)


def test_index(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir), finetune={})
    assert plan_index(config)["steps"][0]["encoding"]["kept"] == 0
    assert list(tmp_path.iterdir()) == []
    index(config)
    left = tree(tmp_path)
    found = plan_index(config)["steps"][0]["encoding"]
    assert found == {"passages": n_lines(english_beir / "corpus.jsonl"), "queries": 0, "kept": found["passages"]}
    assert states(plan_index(config, rollback=True)) == {"rollback": "to run"}
    assert tree(tmp_path) == left


def test_what_the_run_would_refuse_is_refused(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir))
    with pytest.raises(ConfigError, match="nowhere: no such folder or alias"):
        plan_evaluate(config, ["x=dense:nowhere"], "test")
    with pytest.raises(ConfigError, match="evaluate needs --data"):
        plan_evaluate(configure(tmp_path), ["bm25=bm25"], "test")
    with pytest.raises(ConfigError, match="finetune needs --data"):
        plan_finetune(configure(tmp_path))
    with pytest.raises(ConfigError, match="--late-chunking reads passages in their documents"):
        plan_index(configure(tmp_path, data=str(english_beir), finetune={}, index={"late_chunking": True}))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text("not a model", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds files that are not of an earlier finetune"):
        plan_finetune(config.model_copy(update={"out": str(tmp_path / "theirs")}))
    broken = tmp_path / "rows.jsonl"
    write_jsonl(broken, [{"query": 7, "pos": ["p"]}])
    with pytest.raises(DataError, match=r"rows\.jsonl:1:query"):
        plan_negatives(configure(tmp_path, data=str(broken)), "train", "n.jsonl")


def test_mining_by_words_encodes_nothing(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    model = write_sparse(tmp_path / "splade")
    config = configure(tmp_path, data=str(english_beir), model=str(model), finetune={"max_steps": 1, "max_length": 16})
    mining, training = plan_finetune(config)["steps"]
    assert "encoding" not in mining
    assert mining["seconds"] is None
    assert training["seconds"] > 0
    assert [*tmp_path.iterdir()] == [model.parent]
    finetune(config)
    assert states(plan_finetune(config)) == {"negatives": "cached", "model": "to run"}
