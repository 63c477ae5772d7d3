"""What a recipe prints when it is done, for 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.measures import SHOWN
from bessemer.printing import fold

WIDTH = 80
LINES_PER_HIT = 3
GRADIENTS_LEGEND = (
    "weight: softmax share of the negative, 0 teaches nothing; norm: mean length of a",
    "gradient; variance: squared distance from their mean; signal: length of that",
    "mean, corrected for chance; shared: signal^2 in the mean squared length;",
    "suspected: scores above 0.95 times the query's lowest positive",
)


def report_summary(report: Mapping[str, Any], out: str) -> str:
    """The table, the verdict, what to know besides, and where everything lies."""
    evaluation = report["evaluation"]
    warnings = [*evaluation.get("warnings", ()), *evaluation["notes"], *report["data"]["warnings"]]
    warnings += [*report["negatives"]["warnings"], *report["training"]["notes"]]
    lines = [systems_table(evaluation), "", _verdict(report["verdict"]), "", *map(_note, warnings)]
    lines += ["", f"model   {out}/model", f"index   {out}/index", f"report  {out}/report.html, {out}/report.json"]
    return "\n".join(lines)


def systems_table(evaluation: Mapping[str, Any]) -> str:
    """Systems by measures; the difference to the baseline with its interval where there is one."""
    differences = {
        row["treatment"]: f"{row['difference']:+.4f} [{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]"
        for row in reversed(evaluation.get("comparisons") or [])
        if row["measure"] == SHOWN[0] and row["baseline"] == evaluation["comparisons"][0]["baseline"]
    }
    systems = evaluation["systems"]
    shown = [measure for measure in SHOWN if all(measure in system["measures"] for system in systems.values())]
    first = max(12, *(len(name) for name in systems))
    shown = shown[: max(1, (WIDTH - first - 28) // 8)]  # long names leave room for fewer measures; JSON holds them all
    rows = [f"{'':{first}}" + "".join(f"{measure:>8}" for measure in shown) + f"  {'nDCG@10 difference [95%]':>26}"]
    for name, system in systems.items():
        values = "".join(f"{system['measures'][measure]:8.4f}" for measure in shown)
        rows.append(f"{name:{first}}{values}  {differences.get(name, ''):>26}".rstrip())
    return "\n".join(rows)


def evaluation_summary(result: Mapping[str, Any]) -> str:
    """The table and the verdict of an evaluation, or the measures of sentence pairs."""
    if not result["comparisons"] and result.get("split") is None:
        rows = [
            f"{name:14}" + "  ".join(f"{measure} {value:.4f}" for measure, value in system["measures"].items())
            for name, system in result["systems"].items()
        ]
        return "\n".join(rows)
    lines = [systems_table(result), ""]
    if result["comparisons"]:
        lines.append(_verdict(result["verdict"]))
    lines += _figures(result["systems"])
    lines += [_note(text) for text in (*result.get("warnings", ()), *result["notes"])]
    return "\n".join(lines)


def _figures(systems: Mapping[str, Any]) -> list[str]:
    """What sparse and multi-vector systems keep of a text, and the weights of an ensemble."""
    lines = []
    for name, system in systems.items():
        told = []
        if "active_dimensions" in system:
            mean = system["active_dimensions"]
            told.append(f"{mean['query']:.1f} weights per query, {mean['passage']:.1f} per passage")
        if "bytes_per_passage" in system:
            told.append(f"{system['bytes_per_passage']:,.0f} bytes of vectors per passage")
        if "lane_weights" in system:
            told.append("lanes " + ", ".join(f"{lane} x {w:g}" for lane, w in system["lane_weights"].items()))
        if told:
            lines.append(textwrap.fill(f"{name}: {'; '.join(told)}", WIDTH, subsequent_indent="  "))
    return lines


def training_summary(result: Mapping[str, Any], out: str) -> str:
    """What was trained, how fast, and what dev said."""
    lines = [
        f"{result['examples']} examples in {result['steps']} steps, {result['epochs']:.2f} epochs, "
        f"{result['seconds']:.0f} s",
        f"{result['examples_per_second']:.1f} examples/s, {result['token_waste']:.0%} padding, "
        f"final loss {result['final_loss']:.4f}",
    ]
    if result["dev_curve"]:
        measure = result["dev_measure"]
        curve = ", ".join(f"{point['step']}: {point[measure]:.4f}" for point in result["dev_curve"])
        lines.append(textwrap.fill(f"dev {measure} by step: {curve}; best step {result['best_step']}", WIDTH))
        lines += _by_task(result, measure)
    if result["interpolation"]:
        chosen = result["interpolation"]
        lines.append(textwrap.fill(f"interpolation: alpha {chosen['alpha']:g} ({chosen['reason']})", WIDTH))
    if result["lane_weights"]:
        lines.append(_lane_weights(result["lane_weights"]))
    lines += [_note(text) for text in (*result["data"]["warnings"], *result["notes"])]
    return "\n".join([*lines, f"model   {out}", f"figures {out}/training.json"])


def _by_task(result: Mapping[str, Any], measure: str) -> list[str]:
    """Where several tasks trained: what each had at first and at the best step."""
    first, best = result["dev_curve"][0], {point["step"]: point for point in result["dev_curve"]}[result["best_step"]]
    names = [key for key in best if key in first and key not in ("step", measure)]
    return [f"  {key.removeprefix(f'{measure} ')}: {first[key]:.4f} -> {best[key]:.4f}" for key in names]


def negatives_summary(result: Mapping[str, Any]) -> str:
    dropped = ", ".join(f"{n} by {reason}" for reason, n in result["dropped"].items()) or "none"
    window = f", drawn from {result['mean_drawn_from']:.2f}" if result["mean_drawn_from"] is not None else ""
    lines = [
        f"{result['rows']} rows with {result['mean_per_query']:.2f} negatives each{window} ({result['strategy']})",
        textwrap.fill(f"dropped as suspected false negatives: {dropped}", WIDTH),
    ]
    lines += [_note(text) for text in (*result["data_warnings"], *result["warnings"])]
    lines.append(f"wrote   {result['out']}")
    if "gradients" in result:
        lines += ["", *_gradients_table(result["gradients"]), *map(_note, result["gradients_notes"])]
        lines.append(f"drawn   {result['gradients_plot']}")
    return "\n".join(lines)


def teacher_summary(result: Mapping[str, Any]) -> str:
    rate = result["scored"] / result["seconds"] if result["seconds"] else 0.0
    lines = [
        f"{result['rows']:,} rows, {result['pairs']:,} pairs: {result['scored']:,} scored in {result['seconds']:.1f} s "
        f"({rate:.1f}/s), {result['cached']:,} cached",
        *map(_note, result["notes"]),
    ]
    if "llm" in result:
        tokens = result["llm"]["input_tokens"] + result["llm"]["output_tokens"]
        cost = result["llm"]["cost"]
        lines.append(f"endpoint: {tokens:,} tokens" + (f", cost {cost:.4f}" if cost is not None else ""))
    return "\n".join([*lines, f"wrote   {result['out']}"])


def _gradients_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Per strategy, what one negative of it teaches beside one positive (``training/gradients.py`` defines each)."""
    if not rows:
        return ["no query has a negative under every strategy: gradients were not compared"]
    lines = [
        f"one negative of each for the same {rows[0]['n_examples']} queries:",
        f"{'':18}{'weight':>9}{'norm':>9}{'variance':>11}{'signal':>9}{'shared':>9}{'suspected':>11}",
    ]
    for row in rows:
        figures = f"{row['weight']:9.4f}{row['norm']:9.3f}{row['variance']:11.3f}{row['signal']:9.3f}"
        lines.append(f"{row['strategy']:18}{figures}{row['shared']:z9.2%}{row['suspected']:11.1%}")
    return [*lines, *GRADIENTS_LEGEND]


def funnel_summary(result: Mapping[str, Any]) -> str:
    """What every stage kept and dropped, with the reasons."""
    lines = [f"{'stage':12}{'kept':>8}{'dropped':>9}  reasons"]
    for stage in result["funnel"]:
        reasons = ", ".join(f"{reason} {n}" for reason, n in list(stage["reasons"].items())[:3])
        more = len(stage["reasons"]) - 3
        reasons += f", {more} more" if more > 0 else ""
        row = f"{stage['stage']:12}{stage['kept']:>8,}{stage['dropped']:>9,}  {reasons}"
        lines.append(textwrap.fill(row, WIDTH, subsequent_indent=" " * 31))
    for name, counts in result["splits"].items():
        lines.append(f"{name:12}" + ", ".join(f"{n:,} {what}" for what, n in counts.items()))
    if result.get("llm"):
        lines.append(textwrap.fill(calls_made(result["llm"]), WIDTH, subsequent_indent=" " * 12))
    lines += [_note(text) for text in result["notes"]]
    told = "; dropped.jsonl in it says what was dropped, and why" if result["splits"] else ""
    return "\n".join([*lines, f"wrote       {result['out']}{told}"])


def calls_made(llm: Mapping[str, Any]) -> str:
    """What the language model was asked in this run and before, and what it cost."""
    total = None if llm["cost"] is None else llm["cost"] + llm["cost_before"]
    cost = "cost unknown without prices" if total is None else f"cost {total:.4f}"
    tokens = llm["input_tokens"] + llm["output_tokens"] + llm["tokens_kept_from_before"]
    before = f", {llm['calls_kept_from_before']:,} more kept from before" if llm["calls_kept_from_before"] else ""
    return f"{llm['model']}: {llm['calls']:,} calls{before}; {tokens:,} tokens in all, {cost}"


def index_summary(result: Mapping[str, Any]) -> str:
    lines = [
        f"{result['n_passages']:,} passages: {result['n_encoded']:,} encoded, {result['n_reused']:,} taken over, "
        f"{result['n_removed']:,} removed, {result['n_reweighed']:,} with new word weights alone;"
        f" {result['dropped']:,} dropped, {result['truncated']:,} cut to the model's length"
    ]
    if result["over_windows"]:
        lines.append(f"{result['over_windows']:,} passages are longer than the model reads: averaged over its windows")
    if result["n_questions"] or result["questions_dropped"]:
        left_out = "".join(f"; {n:,} left out: {reason}" for reason, n in result["questions_dropped"].items())
        lines.append(
            f"{result['n_questions']:,} questions of passages: {result['n_questions_encoded']:,} encoded, "
            f"{result['questions_truncated']:,} cut to the model's length{left_out}"
        )
    if result["n_questions"] and not result["fusion"] and 2 * result["asked_passages"] < result["n_passages"]:
        asked = f"{result['asked_passages']:,} of {result['n_passages']:,}"
        lines += [
            f"warning: only {asked} passages have a question; the others fall behind",
            "  ask about all (bessemer questions), or let dev queries weigh the lanes",
            "  (--fusion-data)",
        ]
    if result["fusion"]:
        lines += _fusion_lines(result["fusion"])
    return "\n".join([*lines, f"index   {result['out']}"])


def _fusion_lines(fusion: Mapping[str, Any]) -> list[str]:
    measured = f"nDCG@10 {fusion['dev_weighted']:.4f} weighted, {fusion['dev_by_rank']:.4f} by rank"
    if fusion["weights"]:
        how = "lanes are weighted: " + ", ".join(f"{lane} {weight:g}" for lane, weight in fusion["weights"].items())
    else:
        how = "lanes are fused by rank: weights are no better by more than chance"
    unusable = f"; {fusion['unusable']:,} have no passage here" if fusion["unusable"] else ""
    return [how, f"  on {fusion['n_queries']:,} dev queries: {measured}{unusable}"]


def rollback_summary(result: Mapping[str, Any]) -> str:
    return (
        f"the generation of {result['model']} is searched again: {result['n_passages']:,} passages, built "
        f"{result['created']}\nindex   {result['out']}"
    )


def hits_summary(hits: Sequence[Mapping[str, Any]], explain: bool) -> str:
    """Rank, score, id and the first lines of each passage."""
    blocks = []
    for rank, hit in enumerate(hits, start=1):
        lines = [f"{rank:2}. {hit['score']:.4f}  {hit['passage_id']}"]
        if explain:
            lanes = (f"{name}: rank {lane['rank']}, score {lane['score']:.4f}" for name, lane in hit["lanes"].items())
            lines.append(fold(f"[{'; '.join(lanes)}]", WIDTH, indent="    "))
            if "questions" in hit["lanes"]:
                lines.append(fold(f"asked before: {hit['lanes']['questions']['question']}", WIDTH, indent="    "))
            lines += _tokens(hit["explain"])
        shown = fold(" ".join(hit["text"].split()), WIDTH, indent="    ").split("\n")
        lines += shown[:LINES_PER_HIT]
        if len(shown) > LINES_PER_HIT:
            lines.append(f"    ... {len(shown) - LINES_PER_HIT} more")
        blocks.append("\n".join(lines))
    notes = dict.fromkeys(hit["explain"]["note"] for hit in hits if "note" in hit.get("explain", {}))
    return "\n".join([*blocks, *map(_note, notes)]) or "nothing found"


def _tokens(explained: Mapping[str, Any]) -> list[str]:
    """The shared tokens by their share of the sparse score, and what every token of the query matched."""
    lines = []
    if "sparse" in explained:
        shares = [f"{token['token']} {token['share']:.0%}" for token in explained["sparse"]]
        lines.append(f"sparse: {', '.join(shares) or 'no token in common'}")
    if explained.get("multi_vector"):
        matches = [f"{m['token']} -> {m['matched']} {m['score']:.2f}" for m in explained["multi_vector"]]
        lines.append(f"matched: {'; '.join(matches)}")
    return [fold(" ".join(line.split()), WIDTH, indent="    ") for line in lines]


def keywords_summary(result: Mapping[str, Any]) -> str:
    left_out = f", {result['without_keywords']} queries without keywords left out" if result["without_keywords"] else ""
    return f"{result['rows']} rows{left_out}\n{textwrap.fill(calls_made(result['llm']), WIDTH)}\nwrote {result['out']}"


def answer_summary(result: Mapping[str, Any]) -> str:
    """The answer, and under its numbers the first lines of what it rests on."""
    if not result["found"]:
        searched = ", ".join(result["passages"]) or "none"
        return f"not in the documents: {result['reason']}\n" + fold(f"looked at: {searched}", WIDTH, indent="  ")
    lines = [fold(result["answer"], WIDTH, indent=""), ""]
    for citation in result["citations"]:
        origin = f" ({citation['index']})" if len(result["indexes"]) > 1 else ""
        lines.append(f"[{citation['n']}] {citation['passage_id']}{origin}")
        shown = fold(" ".join(citation["text"].split()), WIDTH, indent="    ").split("\n")
        lines += shown[:LINES_PER_HIT] + (
            [f"    ... {len(shown) - LINES_PER_HIT} more"] if shown[LINES_PER_HIT:] else []
        )
    if result["truncated"]:
        lines.append(_note("the language model had more to say than it may: the answer was cut"))
    if result["cached"]:
        lines.append(_note(f"answered before, as: {result['cached']}"))
    return "\n".join(lines)


def _lane_weights(tuned: Mapping[str, Any]) -> str:
    lanes = ", ".join(f"{lane} {tuned[lane]:g}" for lane in ("dense", "sparse", "multi_vector"))
    gain = f"dev {tuned['dev_before']:.4f} -> {tuned['dev']:.4f}, the best of all tried {tuned['dev_best']:.4f}"
    return textwrap.fill(f"lane weights: {lanes} ({gain})", WIDTH)


def _verdict(verdict: Mapping[str, Any]) -> str:
    return textwrap.fill(f"{verdict['decision'].upper()}: {verdict['reason']}", WIDTH)


def _note(text: str) -> str:
    return textwrap.fill(f"note: {text}", WIDTH, subsequent_indent="      ")


def export_summary(result: Mapping[str, Any]) -> str:
    """Source and build side by side, and what the build may be used for."""
    lines = [f"{'':34}{'MiB':>7}{'ms/query':>10}{'passages/s':>12}{'nDCG@10':>9}"]
    for name, system in result["systems"].items():
        cells = (
            f"{system['bytes'] / 2**20:7.1f}" if "bytes" in system else " " * 7,
            f"{system['query_ms']:10.2f}" if "query_ms" in system else " " * 10,
            f"{system['passages_per_second']:12.1f}" if "passages_per_second" in system else " " * 12,
            f"{system['nDCG@10']:9.4f}" if "nDCG@10" in system else f"{'-':>9}",
        )
        lines.append(f"{name:34}{''.join(cells)}".rstrip())
    lines.append("")
    notes = [result["dev"]] if "dev" in result else [f"recall {result['recall']}"]
    notes += [f"{one['scheme']} was refused: {one['reason']}" for one in result["refused"]]
    lowest = f"{result['lowest_cosine']:.6f} over {result['n_compared_texts']} texts"
    notes.append(f"{result['scheme']}; lowest cosine to the source's vectors {lowest}")
    searches = "may search" if result["stands_for_source"] else "may not search"
    notes.append(f"its queries {searches} an index that {result['source']} has built")
    return "\n".join([*lines, *map(_note, notes), "", f"build   {result['out']}"])
