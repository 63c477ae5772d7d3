from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer

import english_world
from bessemer import open_index
from bessemer.config import Config
from bessemer.encoders.load import load_encoder
from bessemer.encoders.widths import widths_of
from bessemer.errors import ConfigError
from bessemer.recipes.adapt import adapt, plan
from bessemer.recipes.adapt_plan import STEPS
from bessemer.recipes.finetune import finetune
from bessemer.recipes.finetune_plan import plan_finetune
from bessemer.recipes.summary import report_summary

Configure = Callable[..., Config]
LONGER = {"learning_rate": 0.1, "max_steps": 40, "eval_steps": 20}
SYSTEMS = ["bm25", "base", "tuned", "hybrid-base", "hybrid-tuned"]


def read_report(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def numbers(report: Mapping[str, Any]) -> dict[str, Any]:
    """All that was measured, less the clock."""
    systems = {name: system["measures"] for name, system in report["evaluation"]["systems"].items()}
    evaluation = {**report["evaluation"], "systems": systems}
    return {"evaluation": evaluation, "fingerprints": report["fingerprints"], "negatives": report["negatives"]}


def mean_ndcg(model: SentenceTransformer, beir: Path) -> float:
    """nDCG@10 of the test split, where every query has one relevant passage: 1 / log2(rank + 1)."""
    corpus = [json.loads(line) for line in (beir / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = {row["_id"]: row["text"] for row in map(json.loads, (beir / "queries.jsonl").read_text().splitlines())}
    passages = model.encode_document([f"{row['title']}\n{row['text']}" for row in corpus])
    gains = []
    for place in english_world.SPLITS["test"]:
        scores = model.similarity(model.encode_query([texts[f"q{place}"]]), passages)[0]
        rank = 1 + int((scores > scores[place]).sum())
        gains.append(1 / math.log2(rank + 1) if rank <= 10 else 0.0)
    return sum(gains) / len(gains)


def test_report_holds_what_is_promised(adapted: Any) -> None:
    report = read_report(adapted.out)
    assert report == json.loads(json.dumps(adapted.report))
    assert {"bessemer", "created", "command", "seed", "verdict", "data", "negatives", "training", "evaluation",
            "settings", "versions", "fingerprints"} <= report.keys()  # fmt: skip
    assert report["data"]["queries"] == {"train": 24, "dev": 8, "test": 16}
    assert (report["data"]["documents"], report["data"]["passages"], report["data"]["dropped"]) == (60, 60, {})
    assert {"examples", "steps", "seconds", "examples_per_second", "final_loss", "peak_memory_bytes", "token_waste",
            "loss_curve", "dev_curve", "dev_pool", "interpolation"} <= report["training"].keys()  # fmt: skip
    assert (report["training"]["steps"], report["training"]["examples"]) == (8, 8 * 24)
    assert {"python", "torch", "transformers", "sentence-transformers"} <= report["versions"].keys()
    evaluation = report["evaluation"]
    assert [name for name in evaluation["systems"] if name != "hybrid-weighted"] == SYSTEMS
    assert (evaluation["split"], evaluation["n_queries"]) == ("test", 16)
    for system in evaluation["systems"].values():
        assert {"R@1", "R@10", "nDCG@10", "RR@10", "AP@100", "P@1", "Success@1"} <= system["measures"].keys()
        assert system["queries_per_second"] > 0
    first = evaluation["comparisons"][0]
    assert (first["baseline"], first["treatment"], first["measure"]) == ("base", "tuned", "nDCG@10")
    assert first["ci_low"] <= first["difference"] <= first["ci_high"]
    assert 0 < first["p"] <= 1
    assert report["verdict"] == evaluation["verdict"]
    assert report["verdict"]["decision"] in ("ship", "keep base", "not enough evidence")


def test_the_terminal_tells_every_note(adapted: Any) -> None:
    """Line ends aside."""
    report = adapted.report
    shown = "".join(report_summary(report, "out").split())
    told = [*report["evaluation"]["notes"], *report["data"]["warnings"], *report["training"]["notes"]]
    assert report["evaluation"]["notes"]
    assert [note for note in told if "".join(note.split()) not in shown] == []


def test_model_loads_alone_and_gives_the_reported_numbers(adapted: Any, english_beir: Path) -> None:
    measured = {name: s["measures"]["nDCG@10"] for name, s in adapted.report["evaluation"]["systems"].items()}
    tuned = SentenceTransformer(str(adapted.out / "model"), device="cpu")
    base = SentenceTransformer(adapted.config.model, device="cpu")
    assert mean_ndcg(base, english_beir) == pytest.approx(measured["base"], abs=1e-9)
    assert mean_ndcg(tuned, english_beir) == pytest.approx(measured["tuned"], abs=1e-9)
    assert measured["tuned"] != pytest.approx(measured["base"], abs=1e-4)  # or the test could not tell them apart


def test_index_is_stamped_and_finds(adapted: Any) -> None:
    stamp = json.loads((adapted.out / "index" / "manifest.json").read_text(encoding="utf-8"))
    assert adapted.report["fingerprints"]["tuned"] in json.dumps(stamp)
    assert load_encoder(str(adapted.out / "model")).fingerprint == adapted.report["fingerprints"]["tuned"]
    summary, body = english_world.docstring_pairs()[3][1:]
    hits = open_index(adapted.out / "index").search(body, 3)
    assert (hits[0]["passage_id"], hits[0]["doc_id"]) == ("p3", "p3"), summary


def test_second_run_does_nothing_anew(adapted: Any) -> None:
    manifests = sorted(Path(adapted.config.workspace, "steps").rglob("manifest.json"))
    before = [manifest.stat().st_mtime_ns for manifest in manifests]
    assert len(manifests) == len(STEPS)
    again = adapt(adapted.config)
    assert sorted(Path(adapted.config.workspace, "steps").rglob("manifest.json")) == manifests
    assert [manifest.stat().st_mtime_ns for manifest in manifests] == before
    assert {**again, "created": "", "command": ""} == {**adapted.report, "created": "", "command": ""}


def test_dry_run_writes_nothing(adapted: Any, tmp_path: Path) -> None:
    done = plan(adapted.config)
    assert {step["step"]: step["state"] for step in done["steps"]} == dict.fromkeys(STEPS, "cached")
    fresh = adapted.config.model_copy(update={"out": str(tmp_path / "out"), "workspace": str(tmp_path / "workspace")})
    assert {step["state"] for step in plan(fresh)["steps"]} == {"to run"}
    longer = fresh.model_copy(update={
        "workspace": adapted.config.workspace,
        "finetune": adapted.config.finetune.model_copy(update={"max_steps": 9}),
    })  # fmt: skip
    states = {step["step"]: step["state"] for step in plan(longer)["steps"]}
    assert states == {step: "cached" if step in STEPS[:3] else "to run" for step in STEPS}
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "workspace" / "steps").exists()


def test_final_fit_after_a_ship_only(adapted: Any, configure: Configure, tmp_path: Path) -> None:
    assert adapted.report["verdict"]["decision"] != "ship"
    kept = adapt(adapted.config.model_copy(update={"final_fit": True, "out": str(tmp_path / "kept")}))
    assert "final_fit" not in kept
    beir = english_world.write_beir(tmp_path / "beir")
    asked = (beir / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    with (beir / "qrels" / "train.tsv").open("a", encoding="utf-8") as train:
        train.write("\n".join(asked) + "\n")  # a leak, so that tuning wins for certain
    plain = adapt(configure(tmp_path, data=str(beir), finetune=LONGER))
    assert any(warning.startswith("leak: 16 query ids") for warning in plain["data"]["warnings"])
    assert plain["verdict"]["decision"] == "ship"
    widths = {**LONGER, "matryoshka_dims": (8,)}
    cut = adapt(configure(tmp_path / "cut", data=str(beir), finetune=widths, final_fit=True))
    assert "final_fit" in cut
    assert widths_of(str(tmp_path / "cut" / "out" / "model")) == (8,)
    report = adapt(configure(tmp_path, data=str(beir), finetune=LONGER, final_fit=True))
    assert report["final_fit"]["queries"] == 24 + 8 + 16
    assert report["evaluation"]["systems"] == plain["evaluation"]["systems"]
    assert report["fingerprints"]["tuned"] == plain["fingerprints"]["tuned"] != report["fingerprints"]["final"]
    assert load_encoder(str(tmp_path / "out" / "model")).fingerprint == report["fingerprints"]["final"]
    assert open_index(tmp_path / "out" / "index").search("parse arguments", 1)
    card = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert "inherited" in card
    assert f"this model: `{report['fingerprints']['final'][:16]}`" in card


def test_killed_in_training_ends_the_same(adapted: Any, tmp_path: Path) -> None:
    """kill -9 while the model is being trained, then the same command."""
    config_file = tmp_path / "bessemer.json"  # JSON is YAML
    settings = adapted.config.model_dump(mode="json", exclude_unset=True)
    settings |= {"out": str(tmp_path / "out"), "workspace": str(tmp_path / "workspace")}
    config_file.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-c", "from bessemer.cli import main; main()", "adapt", "--config", str(config_file)]
    steps = tmp_path / "workspace" / "steps"

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ)
    deadline = time.monotonic() + 60
    while not list(steps.glob("model-*/work/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not list(steps.glob("model-*/manifest.json"))
    assert not (tmp_path / "out" / "report.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in steps.glob("*/manifest.json")}
    assert {path.parent.name.rsplit("-", 1)[0] for path in finished} == set(STEPS[:3])

    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)  # a bound, not a target
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert numbers(read_report(tmp_path / "out")) == numbers(adapted.report)


def test_hostile_texts_are_text_in_the_report(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)> \u001b[31m "
    corpus = [json.loads(line) for line in (beir / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    queries = [json.loads(line) for line in (beir / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    english_world.write_jsonl(beir / "corpus.jsonl", [{**row, "text": evil + row["text"]} for row in corpus])
    english_world.write_jsonl(beir / "queries.jsonl", [{**row, "text": evil + row["text"]} for row in queries])
    config = configure(tmp_path, data=str(beir))
    report = adapt(config)
    shown = report["evaluation"]["examples"]
    assert shown["won"] or shown["lost"]
    page = Path(config.out, "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "\u001b" not in page


def test_minilm_end_to_end_with_a_general_set(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    """The default model, two steps; the world itself stands in for the general set."""
    config = configure(
        tmp_path,
        data=str(english_beir),
        model="minilm",
        finetune={"max_steps": 2, "per_device_train_batch_size": 4, "max_length": 24, "eval_steps": 2},
        evaluation={"general": str(english_beir), "bootstrap_samples": 200},
    )
    report = adapt(config)
    general = report["evaluation"]["general"]
    assert (general["name"], general["n_queries"], general["margin"]) == ("beir", 8, 0.01)
    assert report["evaluation"]["systems"]["base"]["measures"]["nDCG@10"] > 0.4
    base, tuned = (load_encoder(str(name), device="cpu") for name in ("minilm", Path(config.out, "model")))
    assert report["fingerprints"] == {"base": base.fingerprint, "tuned": tuned.fingerprint}


@pytest.mark.parametrize(
    ("finetuning", "message"),
    [
        ({"loss": "infonce"}, "`infonce` is no loss for queries with passages; one of: .*info_nce"),
        ({"matryoshka_dims": (9999,)}, r"\[9999\] not within the model's"),
        ({"report_to": ("nobody",)}, "--report-to nobody: not known"),
        ({"loss": "distillation", "n_negatives": 0}, "compares candidates with the positive"),
    ],
)
def test_settings_are_refused_before_anything_runs(
    finetuning: dict[str, Any], message: str, configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    teacher = {"kind": "embedder", "model": "minilm"}
    for verb in (adapt, plan, finetune, plan_finetune):
        root = tmp_path / verb.__name__
        data = english_beir
        if finetuning.get("loss") == "distillation" and verb in (finetune, plan_finetune):
            continue  # refused for want of teacher scores
        with pytest.raises(ConfigError, match=message):
            verb(configure(root, data=str(data), finetune=finetuning, teacher=teacher))
        assert not list(root.glob("workspace/steps/*"))


def test_one_judged_query_and_no_dev(configure: Configure, tmp_path: Path) -> None:
    beir = english_world.write_beir(tmp_path / "beir")
    (beir / "qrels" / "dev.tsv").unlink()
    train = beir / "qrels" / "train.tsv"
    train.write_text("\n".join(train.read_text(encoding="utf-8").splitlines()[:2]) + "\n", encoding="utf-8")
    assert plan(configure(tmp_path, data=str(beir)))["steps"]
    report = adapt(configure(tmp_path, data=str(beir)))
    assert report["training"]["examples"] > 0
    assert report["evaluation"]["n_queries"] == 16
