"""What `adapt` would do: which steps are done, which would run, and about how long they take here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bessemer.config import Config
from bessemer.encoders.dense import DenseEncoder
from bessemer.llm.client import SECONDS_PER_CALL
from bessemer.recipes.encoding_plan import seconds_per_text, training_seconds
from bessemer.recipes.final_fit import n_pairs
from bessemer.recipes.teachers import is_endpoint
from bessemer.training.losses import FOR_TEACHERS
from bessemer.types import Collection

STEPS = ("base-runs", "general-set", "negatives", "model", "tuned-runs", "general-loss", "separation")
FINAL_FIT = "final fit"


@dataclass
class Plan:
    """Filled as the recipe goes along; ``next_step`` is the first that is not done, ``llm`` what writing the questions
    would take at most."""

    next_step: str = ""
    encoder: DenseEncoder | None = None
    collection: Collection | None = None
    llm: Mapping[str, Any] | None = None

    def to_dict(self, config: Config) -> Mapping[str, Any]:
        """``llm_cost``: 0 where nothing will be asked, None where it is not known: without prices, and while steps of
        ``llm_unknown`` are to run, whose calls depend on what comes before (those of a final fit on the verdict)."""
        steps = _steps_of(config)
        place = steps.index(self.next_step) if self.next_step in steps else len(steps)
        seconds = self._seconds(config) if place < len(steps) else {}
        estimated = {"questions"} if self.llm else set()
        unknown = [step for step in steps[place:] if step in _asking(config) - estimated]
        if config.final_fit and _asking(config) & {*_labels(config)}:  # of dev and test, if the verdict is to ship
            unknown.append(FINAL_FIT)
        return {
            "steps": [
                {"step": step, "state": "cached" if i < place else "to run", "seconds": seconds.get(step)}
                for i, step in enumerate(steps)
            ],
            "llm": self.llm,
            "llm_unknown": unknown,
            "llm_cost": None if unknown else self.llm["cost"] if self.llm else 0.0,
            "out": config.out,
        }

    def _seconds(self, config: Config) -> dict[str, float]:
        """Upper bounds from the encoder's speed on a few of the passages."""
        if self.encoder is None or self.collection is None:
            return {}
        passages, splits = self.collection.passages, self.collection.splits
        each = seconds_per_text(self.encoder.encode_passages, [passage.indexed_text for passage in passages])
        n_dev = len(splits["dev"].queries)
        return {
            "base-runs": len(passages) * each,
            "negatives": len(splits["train"].queries) * each,
            "model": training_seconds(config.finetune, n_pairs(splits["train"]), n_dev, len(passages), each),
            "tuned-runs": len(passages) * each,
        }


def _steps_of(config: Config) -> tuple[str, ...]:
    first = () if config.data else ("documents", "questions")
    place = STEPS.index("model")
    return (*first, *STEPS[:place], *_labels(config), *STEPS[place:])


def _labels(config: Config) -> tuple[str, ...]:
    """The steps of a teacher, where the loss learns from one."""
    answers = ("answers",) if config.teacher.kind == "llm" else ()
    return (*answers, "teacher") if config.finetune.loss in FOR_TEACHERS else ()


def _asking(config: Config) -> set[str]:
    """The steps that ask the language model of ``config.llm``."""
    if config.llm.url is None:
        return set()
    asks = {"questions": config.questions.strategy != "extract", "answers": True, "teacher": is_endpoint(config)}
    return {step for step, does in asks.items() if does}


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
