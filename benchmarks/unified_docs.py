"""The section "What it costs" of docs/unified.md, from what unified.py has measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SECTION = "unified_costs"
Report = Mapping[str, Any]
Row = tuple[str, str, str]


def lines(report: Report) -> list[str]:
    rows = [row for name, of_section in ROWS.items() if name in report for row in of_section(report[name])]
    missing = [name for name in (*ROWS, "storage") if name not in report]
    if not report:
        return ["", "The numbers are still to be measured.", ""]
    found = ["", "Written by `python benchmarks/unified.py --data $BESSEMER_DATA --write-docs`, which says how;"]
    found += [f"all figures: `benchmarks/unified.json`. {machines(report)}", ""]
    if rows:
        found += ["| what | measured | promised |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    if "storage" in report:
        found += [*of_storage(report["storage"]), ""]
    if missing:
        found += [f"Still to be measured: {', '.join(missing)}.", ""]
    return found


def machines(report: Report) -> str:
    facts = {
        f"{m['cpu']}, {m['torch_threads']} threads, {'bf16' if m['native_bf16'] else 'float32'}"
        for m in (section["machine"] for section in report.values())
    }
    return f"Machine: {'; '.join(sorted(facts))}."


def of_encode(found: Report) -> list[Row]:
    ratio = found["ratio_to_dense"]["all"]
    return [("encoding all three outputs, to dense alone", f"{ratio:.2f}x", f"at most {target(found):g}x")]


def of_score(found: Report) -> list[Row]:
    per_pair = found["seconds_per_pair_to_fewest"][-1]
    speed, error = (found["target"][name] for name in ("seconds_ratio", "largest_difference"))
    n = f"{found['n_pairs'][-1]:,}"
    batch = found["matrix_batch"]
    return [
        (
            f"scores of {n} pairs, to matrices of {batch} x {batch}",
            f"{found['seconds_ratio']:.0f}x faster, equal to {found['largest_difference']:.0e}",
            f"at least {speed}x, {error:.0e}",
        ),
        (f"a pair among {n}, to one among {found['n_pairs'][0]:,}", f"{per_pair:.2f}x the time", "linear"),
    ]


def of_sparse(found: Report) -> list[Row]:
    goals = found["targets"]
    return [
        (
            "sparse part of a training step, to batch x length x vocabulary",
            f"{found['seconds_ratio']:.0f}x faster, 1/{found['mib_ratio']:.0f} of the memory",
            f"at least {goals['seconds_ratio']:g}x, at most 1/{goals['mib_ratio']:g}",
        )
    ]


def of_train(found: Report) -> list[Row]:
    ratios = found["unified_to_dense"]
    return [
        (
            f"training step of minilm at batch {found['batch']}, to dense alone",
            f"{ratios['seconds']:.2f}x, memory {ratios['peak_memory_mib']:.2f}x",
            f"at most {target(found):g}x",
        )
    ]


def of_peer(found: Report) -> list[Row]:
    if "left_out" in found:
        return [("training, to FlagEmbedding's M3 trainer", found["left_out"], "")]
    return [
        (
            f"training {model} at batch {found['batch']}, {kind}, to FlagEmbedding {found['FlagEmbedding']}",
            f"{one['examples_per_second_ratio']:.1f}x the examples per second, "
            f"{one['peak_memory_mib']['bessemer'] / one['peak_memory_mib']['FlagEmbedding']:.2f}x its memory",
            f"at least {target(found):g}x",
        )
        for model in ("tiny", "minilm")
        for kind, one in found[model].items()
    ]


def target(found: Report) -> float:
    """Of a section that has one."""
    (promised,) = found["target"].values()
    return float(promised)


ROWS: Mapping[str, Callable[[Report], list[Row]]] = {
    "encode": of_encode,
    "score": of_score,
    "sparse": of_sparse,
    "train": of_train,
    "peer": of_peer,
}


def of_storage(found: Report) -> list[str]:
    rows = [("multi-vectors", row["precision"], row) for row in found["multi_vector"]]
    rows += [("sparse", f"at most {row['top_weights']} weights", row) for row in found["sparse"]]
    return [
        f"What is kept, on {found['set']} ({found['passages']:,} passages of {found['tokens_per_passage']:.0f} tokens, "
        f"{found['queries']} queries; heads as they begin):",
        "",
        "| lane | kept | bytes per passage | nDCG@10 | to the first | queries with another ten best |",
        "|---|---|---|---|---|---|",
        *(
            f"| {lane} | {kept} | {row['bytes_per_passage']:,.0f} | {row['nDCG@10']:.4f} | {row['difference']:+.4f} "
            f"| {row['changed']} |"
            for lane, kept, row in rows
        ),
    ]
