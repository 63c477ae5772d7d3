"""What a teacher saves where negatives are false: InfoNCE, distillation and stable distillation on pubmedqa.

    python benchmarks/distillation.py --data $BESSEMER_DATA --out out/distillation [--seeds 3] [--write-docs]

Of 0%, 10% and 30% of the train queries one positive is hidden and stands among the hard negatives: a false negative,
as an incomplete judgement makes it. Every query has 7 negatives of the base model (minilm), mined without a margin as
the stress wants it. The teacher is a cross-encoder, minilm's weights trained here for two epochs on the train split
without the hidden positives, against random passages: it has never seen a hidden positive judged either way. It reads
each question with its reference answer (the data's `long_answer`), which the student never sees. Student, steps,
learning rate and candidates are the same for all losses; one epoch, nothing mixed with the base, the best checkpoint by
dev queries that are carved from the same rows and so are as incompletely judged as these. Test: nDCG@10 of `bessemer
evaluate`. How good the teacher is: in how many pairs of a positive and a negative of one train query it scores the
positive higher, and the model that mined them; judged positives, which it was trained on, and hidden ones. Every run is
kept; what is there, or in the JSON, is not run again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kept_runs import ROOT, KeptRuns, commits_of, write_json
from results import with_section

SHARES = (0.0, 0.1, 0.3)
LOSSES = ("info_nce", "distillation", "stable_distillation")
N_NEGATIVES, N_RANDOM = 7, 3
FIRST_SEED = 1
SECTION = "distillation"
MEASURE = "nDCG@10"
TEACHER = "teacher"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", default=Path("out/distillation"), type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write-docs", action="store_true")
    given = parser.parse_args()
    beir = given.data / "beir" / "pubmedqa"
    given.out.mkdir(parents=True, exist_ok=True)
    file = ROOT / "benchmarks" / "distillation.json"
    runs = KeptRuns(given.out, file)
    for seed in range(FIRST_SEED, FIRST_SEED + given.seeds):
        for share in SHARES:
            for loss in LOSSES:
                run_once(given.out, runs, beir, loss, share, seed)
    if TEACHER not in runs and (given.out / f"scored-{SHARES[-1]}.jsonl").exists():
        runs.keep(TEACHER, teacher_quality(given.out))
    report = {"shares": SHARES, "losses": LOSSES, "table": table(of_losses(runs.all())), "runs": runs.all()}
    write_json(file, report)
    lines = section(report)
    print("\n".join(lines))
    if given.write_docs:
        page = ROOT / "docs" / "results.md"
        page.write_text(with_section(page.read_text(encoding="utf-8"), SECTION, lines), encoding="utf-8")


def hidden(beir: Path, share: float) -> dict[str, str]:
    """query -> the positive that is hidden; those of a smaller share are among those of a larger one."""
    collection = loaded(beir)
    train = collection.splits["train"]
    several = [query_id for query_id, grades in sorted(train.qrels.items()) if len(grades) > 1]
    random.Random(0).shuffle(several)
    chosen = several[: round(share * len(train.queries))]
    return {query_id: sorted(train.qrels[query_id])[0] for query_id in chosen}


def loaded(beir: Path) -> Any:
    from bessemer.formats import load_collection

    return load_collection(str(beir)).collection


def answered(beir: Path) -> dict[str, str]:
    """query_id -> what the teacher reads: the question with its reference answer."""
    rows = read_rows(beir / "queries.jsonl")
    return {row["_id"]: f"{row['text']} {row['metadata']['long_answer']}" for row in rows}


def train_teacher(beir: Path, folder: Path) -> None:
    """On what stays visible at the largest share."""
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    from bessemer.encoders.load import load_encoder
    from bessemer.training.cpu import memory_kept

    collection, lost = loaded(beir), hidden(beir, max(SHARES))
    base = folder.parent / "base"
    load_encoder("minilm", device="cpu").save(base)
    texts = {passage.passage_id: passage.indexed_text for passage in collection.passages}
    train, draw = collection.splits["train"], random.Random(1)
    rows, asked = [], answered(beir)
    for query in train.queries:
        positives = [p for p in train.qrels[query.query_id] if p != lost.get(query.query_id)]
        others = [p for p in draw.sample(sorted(texts), N_RANDOM + 20) if p not in train.qrels[query.query_id]]
        judged = [*((p, 1.0) for p in positives), *((p, 0.0) for p in others[:N_RANDOM])]
        rows += [{"query": asked[query.query_id], "passage": texts[p], "label": label} for p, label in judged]
    model = CrossEncoder(str(base), num_labels=1, max_length=256, device="cpu")
    arguments = CrossEncoderTrainingArguments(
        str(folder) + "-run", num_train_epochs=2, per_device_train_batch_size=32, learning_rate=5e-5, bf16=True,
        use_cpu=True, save_strategy="no", report_to="none", disable_tqdm=True, seed=0, warmup_steps=0.1,
    )  # fmt: skip
    loss = BinaryCrossEntropyLoss(model)
    with memory_kept():
        CrossEncoderTrainer(model, arguments, train_dataset=Dataset.from_list(rows), loss=loss).train()
    model.save_pretrained(str(folder))


def scored(out: Path, beir: Path, share: float) -> Path:
    """BGE JSONL of the train split with false negatives among its candidates, and the teacher's scores."""
    teacher = out / "teacher"
    if not (teacher / "config.json").exists():
        train_teacher(beir, teacher)
    plain, file = out / f"candidates-{share}.jsonl", out / f"scored-{share}.jsonl"
    by_teacher = out / f"teacher-{share}.jsonl"
    if file.exists():
        return file
    if not plain.exists():
        mined = out / "mined.jsonl"
        bessemer(
            out, "negatives", "--data", beir, "--split", "train", "--model", "minilm", "--out", mined,
            "--n-negatives", N_NEGATIVES, "--relative-margin", 0,
        )  # fmt: skip
        lost, asked = hidden(beir, share), answered(beir)
        rows = [without(row, lost.get(row["query_id"])) for row in read_rows(mined)]
        write_rows(plain, [{**row, "query": asked[row["query_id"]]} for row in rows])
    bessemer(
        out, "teacher", "--data", plain, "--teacher", "cross-encoder", "--teacher-model", teacher, "--out", by_teacher
    )  # fmt: skip
    questions = {query.query_id: query.text for query in loaded(beir).splits["train"].queries}
    write_rows(file, [{**row, "query": questions[row["query_id"]]} for row in read_rows(by_teacher)])
    return file


def teacher_quality(out: Path) -> dict[str, float]:
    """Shares of pairs at the largest share of hidden positives."""
    mined = {row["query_id"]: row for row in read_rows(out / "mined.jsonl")}
    judged, hidden_ones, by_miner = list[bool](), list[bool](), list[bool]()
    for row in read_rows(out / f"scored-{SHARES[-1]}.jsonl"):
        found = mined[row["query_id"]]
        lost = set(found["pos_ids"]) - set(row["pos_ids"])
        scores = dict(zip((*row["pos_ids"], *row["neg_ids"]), row["teacher_scores"], strict=True))
        negatives = [scores[key] for key in row["neg_ids"] if key not in lost]
        judged += [scores[key] > negative for key in row["pos_ids"] for negative in negatives]
        hidden_ones += [scores[key] > negative for key in lost for negative in negatives]
        by_miner += [positive > negative for positive in found["pos_scores"] for negative in found["neg_scores"]]
    return {
        "judged_above_negative": statistics.fmean(judged),
        "hidden_above_negative": statistics.fmean(hidden_ones),
        "miner_positive_above_negative": statistics.fmean(by_miner),
    }


def of_losses(runs: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [run for name, run in runs.items() if name != TEACHER]


def read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def without(row: Mapping[str, Any], passage_id: str | None) -> dict[str, Any]:
    """The row with one positive as its last negative."""
    kept = {key: row[key] for key in ("query", "query_id", "pos", "pos_ids", "neg", "neg_ids")}
    if passage_id is None:
        return kept
    place = row["pos_ids"].index(passage_id)
    return {
        **kept,
        "pos": [text for i, text in enumerate(row["pos"]) if i != place],
        "pos_ids": [key for i, key in enumerate(row["pos_ids"]) if i != place],
        "neg": [*row["neg"][: N_NEGATIVES - 1], row["pos"][place]],
        "neg_ids": [*row["neg_ids"][: N_NEGATIVES - 1], passage_id],
    }


def run_once(out: Path, runs: KeptRuns, beir: Path, loss: str, share: float, seed: int) -> None:
    name = f"{loss}-{share}-{seed}"
    if name in runs:
        return
    model, result = out / name, out / "evaluation.json"
    bessemer(
        out, "finetune", "--data", scored(out, beir, share), "--model", "minilm", "--out", model, "--loss", loss,
        "--seed", seed, "--n-negatives", N_NEGATIVES, "--num-train-epochs", 1, "--no-interpolation",
    )  # fmt: skip
    bessemer(
        out, "evaluate", "--data", beir, "--split", "test", "--system", "base=dense:minilm",
        "--system", f"tuned=dense:{model}", "--json", result,
    )  # fmt: skip
    found = {name: system["measures"][MEASURE] for name, system in json.loads(result.read_text())["systems"].items()}
    runs.keep(name, {"loss": loss, "share": share, "seed": seed, **found})
    shutil.rmtree(model)


def bessemer(out: Path, *arguments: object) -> None:
    print("+ bessemer", *arguments, flush=True)
    command = [sys.executable, "-m", "bessemer", *map(str, arguments), "--workspace", str(out / "workspace"), "--quiet"]
    subprocess.run(command, check=True)


def table(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for loss in LOSSES:
        for share in SHARES:
            values = [run["tuned"] for run in runs if (run["loss"], run["share"]) == (loss, share)]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            rows.append({"loss": loss, "share": share, "mean": statistics.fmean(values), "deviation": deviation})
    return rows


def section(report: Mapping[str, Any]) -> Sequence[str]:
    cells = {(row["loss"], row["share"]): row for row in report["table"]}
    runs, teacher = of_losses(report["runs"]), report["runs"].get(TEACHER)
    lines = [
        "## Distillation where negatives are false",
        "",
        "Written by `python benchmarks/distillation.py --data $BESSEMER_DATA --write-docs`, which says how; all",
        "figures: `benchmarks/distillation.json`. pubmedqa, nDCG@10 on test, by the share of train queries with a",
        "positive hidden among the negatives, seeds "
        f"{', '.join(map(str, sorted({run['seed'] for run in runs})))}. Teacher: a cross-encoder trained on the train",
        f"split, which reads the reference answer with the question. {quality_in_words(teacher)}",
        f"Base: {runs[0]['base']:.4f}. Measured at commit {commits_of(report['runs'])}.",
        "",
        f"| loss | {' | '.join(f'{share:.0%}' for share in SHARES)} | lost at {SHARES[-1]:.0%} |",
        "|---|" + "---|" * (len(SHARES) + 1),
    ]
    for loss in LOSSES:
        means = [cells[loss, share]["mean"] for share in SHARES]
        shown = [in_words(cells[loss, share]) for share in SHARES]
        lines.append(f"| {loss} | {' | '.join(shown)} | {means[0] - means[-1]:+.4f} |")
    return lines


def quality_in_words(teacher: Mapping[str, float] | None) -> str:
    if teacher is None:
        return ""
    return (
        f"In {teacher['judged_above_negative']:.0%} of the\npairs of a judged positive and a negative of one train "
        f"query it scores the positive higher ({teacher['hidden_above_negative']:.0%}\nwhere the positive is hidden), "
        f"minilm in {teacher['miner_positive_above_negative']:.0%}."
    )


def in_words(row: Mapping[str, Any]) -> str:
    return f"{row['mean']:.4f}" + (f" ± {row['deviation']:.4f}" if row["deviation"] else "")


if __name__ == "__main__":
    main()
