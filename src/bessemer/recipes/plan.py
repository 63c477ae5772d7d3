"""The plan of a dry run: its steps, the calls of a language model, and both in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.llm.client import SECONDS_PER_CALL

TO_RUN, CACHED = "to run", "cached"


def plan_of(
    steps: Sequence[Mapping[str, Any]], llm: Mapping[str, Any] | None = None, out: str | None = None
) -> dict[str, Any]:
    """As `adapt`'s plan, of a verb that knows all its calls."""
    return {
        "steps": list(steps),
        "llm": llm,
        "llm_unknown": [],
        "llm_cost": llm["cost"] if llm else 0.0,
        "out": out,
    }


def step_of(name: str, seconds: float | None = None, state: str = TO_RUN) -> dict[str, Any]:
    """``seconds``: None where they are not known."""
    return {"step": name, "state": state, "seconds": seconds}


def plan_summary(plan: Mapping[str, Any]) -> str:
    """One line per step."""
    width = max(14, *(len(step["step"]) + 2 for step in _steps(plan)))
    lines = [_line(step, width) for step in _steps(plan)]
    calls = [calls_summary(plan["llm"])] if plan["llm"] or not plan["llm_unknown"] else []
    unknown = [f"calls for {' and '.join(plan['llm_unknown'])} are not known yet"] if plan["llm_unknown"] else []
    to = f" to {plan['out']}" if plan["out"] else ""
    return "\n".join([*lines, f"language model: {'; '.join([*calls, *unknown])}; nothing was written{to}"])


def _line(step: Mapping[str, Any], width: int) -> str:
    """With the texts that it has to encode, and how long it takes at most, as far as that is known."""
    found = step.get("encoding")
    texts = f"{found['passages']:,} passages, {found['queries']:,} queries, {found['kept']:,} kept" if found else ""
    start = f"goes on from step {step['done']}" if step.get("done") else ""
    about = f"at most about {step['seconds']:.0f} s" if step["seconds"] else ""
    return f"{step['step']:{width}}{step['state']:8}{'; '.join(filter(None, [texts, start, about]))}".rstrip()


def calls_in_all(*estimates: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What one of them does not know, the sum does not."""
    known = [estimate for estimate in estimates if estimate is not None]
    if not known:
        return None
    sums = {key: None if any(one[key] is None for one in known) else sum(one[key] for one in known) for key in known[0]}
    return {**sums, "seconds_guessed": any(one["seconds_guessed"] for one in known)}


def asking_summary(estimate: Mapping[str, Any] | None) -> str:
    """The line of a dry run that only asks."""
    return f"language model: {calls_summary(estimate)}; nothing was written"


def calls_summary(estimate: Mapping[str, Any] | None) -> str:
    """What it would be asked at most; None: nothing."""
    if estimate is None:
        return "no calls, cost 0"
    cost = "cost unknown without prices" if estimate["cost"] is None else f"cost {estimate['cost']:.4f}"
    guess = f" if a call takes {SECONDS_PER_CALL:g} s" if estimate["seconds_guessed"] else ""
    time_left = f", about {estimate['seconds']:.0f} s{guess}"
    tokens = f"{estimate['input_tokens']:,} + {estimate['output_tokens']:,} tokens"
    kept = f" ({estimate['calls_kept']} more are kept)" if estimate["calls_kept"] else ""
    return f"at most {estimate['calls']} calls{kept}, {tokens}, {cost}{time_left}"


def _steps(plan: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    steps: Sequence[Mapping[str, Any]] = plan["steps"]
    return steps
