"""From report.json's dict to what the template shows: one function per section, each None where its part is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bessemer.evaluation import plots
from bessemer.evaluation.formatting import count, finite, interval, signed
from bessemer.evaluation.plots import Interval
from bessemer.measures import PRIMARY

Json = Mapping[str, Any]
View = dict[str, Any]

HEADLINE_MEASURES = (PRIMARY, "R@1", "R@5", "R@10", "R@100", "RR@10", "AP@100")


def mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {}


def records(value: Any) -> list[Json]:
    """The mappings of a list; an absent list is empty."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def primary_comparison(evaluation: Json) -> Json | None:
    """The first comparison in nDCG@10: the one that the verdict judged."""
    return next((row for row in records(evaluation.get("comparisons")) if row.get("measure") == PRIMARY), None)


def measure_of(evaluation: Json, system: Any, measure: str = PRIMARY) -> float | None:
    return finite(mapping(mapping(mapping(evaluation.get("systems")).get(system)).get("measures")).get(measure))


def verdict(report: Json) -> View:
    """Decision, a sentence for the headline and the reason; the badge is told apart by word and shape."""
    evaluation = mapping(report.get("evaluation"))
    given = mapping(evaluation.get("verdict")) or mapping(report.get("verdict"))
    decision = str(given.get("decision") or "no verdict")
    primary = mapping(primary_comparison(evaluation))
    baseline, treatment = primary.get("baseline", "base"), primary.get("treatment", "tuned")
    high = finite(primary.get("ci_high"))
    old, new = (f"the {name} model" if name in ("base", "tuned") else str(name) for name in (baseline, treatment))
    if decision == "ship":
        headline = f"{_sentence(new)} finds the right passages better than {old}: ship it."
    elif decision == "keep base" and high is not None and high < 0:
        headline = f"{_sentence(new)} finds the right passages worse than {old}: keep {old}."
    elif decision == "keep base" and mapping(general_set(evaluation)).get("kept") is False:
        headline = f"{_sentence(new)} loses too much outside its domain: keep {old}."
    elif decision == "keep base":
        headline = f"Keep {old}."
    elif decision == "not enough evidence":
        headline = f"These queries do not prove that {new} is better than {old}."
    else:
        headline = "This report holds no verdict."
    return {
        "decision": decision,
        "badge": {"ship": "ship", "keep base": "keep"}.get(decision, "unsure"),
        "headline": headline,
        "reason": given.get("reason"),
        "baseline": baseline,
        "treatment": treatment,
        "before": measure_of(evaluation, baseline),
        "after": measure_of(evaluation, treatment),
        "comparison": primary or None,
    }


def systems_table(evaluation: Json) -> View | None:
    """Systems x measures; best per column; below each value its difference to the baseline with the interval."""
    systems = mapping(evaluation.get("systems"))
    if not systems:
        return None
    values = {name: mapping(mapping(system).get("measures")) for name, system in systems.items()}
    measures = list(dict.fromkeys(measure for row in values.values() for measure in row))
    best = {
        measure: max((x for row in values.values() if (x := finite(row.get(measure))) is not None), default=None)
        for measure in measures
    }
    baseline = mapping(primary_comparison(evaluation)).get("baseline")
    compared = {
        (row.get("treatment"), row.get("measure")): row
        for row in records(evaluation.get("comparisons"))
        if row.get("baseline") == baseline
    }

    def cell(name: str, measure: str) -> View:
        value = finite(values[name].get(measure))
        return {
            "value": value,
            "best": value is not None and value == best[measure],
            "comparison": compared.get((name, measure)),
        }

    speeds = {name: finite(mapping(system).get("queries_per_second")) for name, system in systems.items()}
    headline = [measure for measure in HEADLINE_MEASURES if measure in measures] or measures[:7]
    return {
        "measures": headline,
        "rows": [(name, [cell(name, measure) for measure in headline], speeds[name]) for name in systems],
        "all_measures": measures,
        "names": list(systems),
        "all_rows": [(measure, [cell(name, measure) for name in systems]) for measure in measures],
        "has_speed": any(speeds.values()),
        "baseline": baseline,
    }


def slices_table(evaluation: Json) -> list[View]:
    rows = records(evaluation.get("slices"))
    intervals = [interval_of(str(row.get("slice")), row) for row in rows]
    known = [row for row in intervals if row is not None]
    return [
        {**_compared(row), "name": row.get("slice"), "mark": plots.interval_mark(mark, known) if mark else None}
        for row, mark in zip(rows, intervals, strict=True)
    ]


def general_set(evaluation: Json) -> View | None:
    """The forgetting guard: what the tuned model loses outside the domain, against the margin."""
    general = mapping(evaluation.get("general"))
    if not general:
        return None
    margin, change, row = finite(general.get("margin")), finite(general.get("difference")), interval_of("", general)
    return {
        **_compared(general),
        "name": general.get("name"),
        "margin": margin,
        "kept": None if margin is None or change is None else change >= -margin,
        "mark": plots.interval_mark(row, [row], None if margin is None else -margin) if row else None,
    }


def examples(evaluation: Json) -> list[tuple[str, list[View]]]:
    """Queries won and lost, each with the top passages of both systems side by side."""
    given = mapping(evaluation.get("examples"))
    return [(kind, found) for kind in ("won", "lost") if (found := [_example(x) for x in records(given.get(kind))])]


def _example(example: Json) -> View:
    sides = [(name, records(example.get(name))) for name in ("base", "tuned")]
    shown = {passage.get("passage_id") for _, passages in sides for passage in passages}
    relevant = records(example.get("relevant"))
    return {
        "query_id": example.get("query_id"),
        "query": str(example.get("query") or ""),
        "change": signed(example.get("change")),
        "ranks": [_rank(example.get("base_rank")), _rank(example.get("tuned_rank"))],
        "sides": sides,
        "unseen": [passage for passage in relevant if passage.get("passage_id") not in shown],
    }


def funnel(data: Json) -> list[View]:
    return [
        {
            "stage": row.get("stage"),
            "kept": row.get("kept"),
            "dropped": row.get("dropped"),
            "reasons": mapping(row.get("reasons")),
            "bar": plots.share_bar(kept, lost)
            if (kept := finite(row.get("kept"))) is not None and (lost := finite(row.get("dropped"))) is not None
            else None,
        }
        for row in records(data.get("funnel"))
    ]


def language_model(data: Json) -> View | None:
    """What was asked, what it cost, and how easy the questions are; None where no model was asked."""
    llm = mapping(data.get("llm"))
    if not llm:
        return None
    counts = {
        "calls": llm.get("calls"),
        "calls kept from before": llm.get("calls_kept_from_before"),
        "tokens sent": llm.get("input_tokens"),
        "tokens received": llm.get("output_tokens"),
        "tokens kept from before": llm.get("tokens_kept_from_before"),
        "answers cut short": llm.get("answers_cut"),
        "questions not reworded": llm.get("questions_not_paraphrased"),
    }
    costs = [finite(llm.get(key)) for key in ("cost", "cost_before")]
    known = [cost for cost in costs if cost is not None]
    facts = [("model", str(llm.get("model") or "")), *((name, count(n)) for name, n in counts.items() if n)]
    easiness = {split: mapping(shares) for split, shares in mapping(llm.get("easiness")).items()}
    systems = list(dict.fromkeys(system for shares in easiness.values() for system in shares))
    return {
        "facts": [*facts, ("cost", f"{sum(known):.4f}" if known else "unknown without prices")],
        "systems": systems,
        "rows": [(split, [finite(shares.get(system)) for system in systems]) for split, shares in easiness.items()],
    }


def teacher(report: Json) -> list[tuple[str, str]]:
    """Who scored the candidates, how many, and what an endpoint took for it; empty without a teacher."""
    part = mapping(report.get("teacher"))
    if not part:
        return []
    llm = mapping(part.get("llm"))
    counts = {
        "pairs": part.get("pairs"),
        "of them kept from before": part.get("kept_from_before"),
        "answers written for it": part.get("answers_generated"),
        "calls": llm.get("calls"),
        "tokens": sum(finite(llm.get(key)) or 0 for key in ("input_tokens", "output_tokens")),
    }
    cost = finite(llm.get("cost"))
    facts = [("teacher", str(part.get("teacher") or "")), *((name, count(n)) for name, n in counts.items() if n)]
    return [*facts, *([] if cost is None else [("cost", f"{cost:.4f}")])]


def flat(settings: Json, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names with JSON values."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)


def _compared(row: Json) -> View:
    numbers = {key: finite(row.get(key)) for key in ("n_queries", "base", "tuned", "difference")}
    return {**numbers, "interval": interval(row.get("ci_low"), row.get("ci_high"))}


def interval_of(label: str, row: Json) -> Interval | None:
    """The row's difference and interval, or None where one of the numbers is missing."""
    difference, low, high = (finite(row.get(key)) for key in ("difference", "ci_low", "ci_high"))
    return None if difference is None or low is None or high is None else Interval(label, difference, low, high)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _rank(rank: Any) -> str:
    return "not found" if finite(rank) is None else f"rank {count(rank)}"
