from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer

import english_world
from bessemer.config import Config, FinetuneConfig, NegativesConfig
from bessemer.errors import ConfigError, DataError
from bessemer.recipes.finetune import finetune

Configure = Callable[..., Config]


def test_model_folder_with_its_figures(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, data=str(english_beir))
    result = finetune(config)
    figures = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert figures == json.loads(json.dumps(result))
    assert {"examples", "steps", "seconds", "examples_per_second", "final_loss", "peak_memory_bytes", "token_waste",
            "loss_curve", "versions", "fingerprints"} <= figures.keys()  # fmt: skip
    assert figures["examples_per_second"] == pytest.approx(figures["examples"] / figures["seconds"], rel=0.01)
    assert figures["fingerprints"]["base"] != figures["fingerprints"]["tuned"]
    model = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert model.encode(["parse arguments"]).shape == (1, 32)
    manifests = {path: path.stat().st_mtime_ns for path in (tmp_path / "workspace").rglob("manifest.json")}
    assert finetune(config) == result
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "workspace").rglob("manifest.json")} == manifests
    finetune(config, resume=False)
    changed = [path.parent.name for path, before in manifests.items() if path.stat().st_mtime_ns != before]
    assert [name.rsplit("-", 1)[0] for name in changed] == ["model"]


def test_a_folder_with_other_files_is_not_replaced(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds files that are not of an earlier finetune"):
        finetune(configure(tmp_path, data=str(english_beir)))
    assert (tmp_path / "out" / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_bge_jsonl_with_and_without_negatives(configure: Configure, tmp_path: Path) -> None:
    pairs = english_world.docstring_pairs()[:12]
    for name, negatives in (("none", []), ("empty", [""]), ("given", [pairs[20 % 12][2]])):
        rows = [{"query": summary, "pos": [body], "neg": negatives} for _, summary, body in pairs]
        english_world.write_jsonl(tmp_path / f"{name}.jsonl", rows)
        config = configure(tmp_path / name, data=str(tmp_path / f"{name}.jsonl"))
        result = finetune(config)
        assert result["steps"] <= 8
        assert result["final_loss"] > 0
        mined = list((tmp_path / name / "workspace" / "steps").glob("negatives-*"))
        assert bool(mined) == (name != "given")


def test_negatives_of_the_data_that_training_replaces_are_told(configure: Configure, tmp_path: Path) -> None:
    pairs = english_world.docstring_pairs()[:12]
    rows = [
        {"query": summary, "pos": [body], "neg": [pairs[0][2]] if i else []}
        for i, (_, summary, body) in enumerate(pairs)
    ]
    english_world.write_jsonl(tmp_path / "rows.jsonl", rows)

    def warnings(name: str, **settings: object) -> list[str]:
        finetuning = {"learning_rate": 0.05, "max_steps": 1, **settings}
        config = configure(tmp_path / name, data=str(tmp_path / "rows.jsonl"), finetune=finetuning)
        found: list[str] = finetune(config)["data"]["warnings"]
        return [text for text in found if text.startswith("negatives given")]

    assert warnings("kept") == []
    assert warnings("refreshed", refresh_steps=1) == [
        "negatives given for 11 queries serve until refresh_steps mines others"
    ]
    assert warnings("frozen", frozen_passages=True) == [
        "negatives given for 11 queries are not used: frozen_passages retrieves its own"
    ]


def test_what_mining_found_and_dropped_is_told(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    """Six negatives at a time are mined, though four are the default; a margin of a tenth drops nearly all."""
    many = finetune(configure(tmp_path / "many", data=str(english_beir), finetune={"n_negatives": 6, "max_steps": 1}))
    assert (many["negatives"]["n_queries"], many["negatives"]["strategy"]) == (24, "top_k")
    assert 4 < many["negatives"]["mean_per_query"] <= 6
    strict = configure(tmp_path / "few", data=str(english_beir), finetune={"max_steps": 1})
    few = finetune(strict.model_copy(update={"negatives": NegativesConfig(relative_margin=0.1)}))
    assert few["negatives"]["dropped_share"] > 0.5
    assert few["negatives"]["warnings"]
    assert set(few["negatives"]["warnings"]) <= set(few["data"]["warnings"])
    unused = finetune(configure(tmp_path / "none", data=str(english_beir), finetune={"n_negatives": 0, "max_steps": 1}))
    assert unused["negatives"] is None


def test_all_problems_at_once(configure: Configure, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"query": "a", "pos": "text"}\n{"query": null, "pos": ["x"]}\n{bad\n{"query": "b", "pos": []}\n',
        encoding="utf-8",
    )
    with pytest.raises(DataError) as error:
        finetune(configure(tmp_path, data=str(file)))
    assert [(p.line, p.field) for p in error.value.problems] == [(1, "pos"), (2, "query"), (3, ""), (4, "pos")]


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "hardness", "class_prior": 0.05},
        {"loss": "mochi"},
        {"symmetric": True, "same_tower_negatives": True, "exclude_same_document": True},
        {"matryoshka_dims": "16,8", "batch_margin": 0.1},
        {"refresh_steps": 3},
        {"loss": "triplet", "loss_margin": 0.3},
    ],
)
def test_every_loss_and_a_refresh_of_negatives_train(
    settings: dict[str, object], configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    plain = configure(tmp_path / "plain", data=str(english_beir))
    finetuning = plain.finetune.model_copy(update={})
    changed = configure(
        tmp_path / "changed", data=str(english_beir), finetune={**finetuning.model_dump(exclude_unset=True), **settings}
    )
    curve = [point["loss"] for point in finetune(changed)["loss_curve"]]
    assert all(math.isfinite(loss) for loss in curve)
    assert curve != [point["loss"] for point in finetune(plain)["loss_curve"]]


def test_a_guide_tells_false_negatives_and_is_encoded_with_but_once(
    configure: Configure, english_beir: Path, english_model: Path, tmp_path: Path
) -> None:
    plain = configure(tmp_path / "plain", data=str(english_beir))
    finetuning = {**plain.finetune.model_dump(exclude_unset=True), "guide": str(english_model), "batch_margin": 0.2}
    guided = configure(tmp_path / "guided", data=str(english_beir), finetune=finetuning)
    curve = [point["loss"] for point in finetune(guided)["loss_curve"]]
    assert all(math.isfinite(loss) for loss in curve)
    assert curve[0] < finetune(plain)["loss_curve"][0]["loss"]  # fewer negatives
    missing = {**finetuning, "guide": str(tmp_path / "nowhere")}
    with pytest.raises(ConfigError, match="nowhere"):
        finetune(configure(tmp_path / "missing", data=str(english_beir), finetune=missing))


@pytest.mark.parametrize("asked", [{"loss": "triplet"}, {"refresh_steps": 0.5}])
def test_hard_negatives_that_are_needed_are_not_turned_off(asked: dict[str, Any]) -> None:
    """Also where the data bring some: none of them would be drawn, and a triplet's loss would be 0."""
    with pytest.raises(ValueError, match="n_negatives 0: refresh_steps and loss triplet need hard negatives"):
        FinetuneConfig(n_negatives=0, **asked)
