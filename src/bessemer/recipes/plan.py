"""What `adapt` would do: which steps are done, which would run, and about how long they take here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bessemer.config import Config
from bessemer.encoders.dense import DenseEncoder
from bessemer.llm.client import SECONDS_PER_CALL
from bessemer.recipes.final_fit import n_pairs
from bessemer.recipes.teachers import is_endpoint
from bessemer.training.interpolation import ALPHAS
from bessemer.training.losses import FOR_TEACHERS
from bessemer.types import Collection

STEPS = ("base-runs", "general-set", "negatives", "model", "tuned-runs", "general-loss", "separation")
FINAL_FIT = "final fit"
BACKWARD = 3.0
"""A training step costs about this many forward passes over the same texts."""
N_TIMED = 48


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
        sample = [passage.indexed_text for passage in passages[:: max(1, len(passages) // N_TIMED)]]
        self.encoder.encode_passages(sample[:4])
        started = time.perf_counter()
        self.encoder.encode_passages(sample)
        each = (time.perf_counter() - started) / len(sample)
        tuning, corpus = config.finetune, len(passages) * each
        trained = tuning.num_train_epochs * n_pairs(splits["train"]) * (2 + tuning.n_negatives) * BACKWARD * each
        n_evaluations = 1 / tuning.eval_steps if tuning.eval_steps < 1 else 10
        return {
            "base-runs": corpus,
            "negatives": len(splits["train"].queries) * each,
            "model": trained + (n_evaluations + 1 + len(ALPHAS)) * corpus,
            "tuned-runs": corpus,
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
    lines = []
    for step in _steps(plan):
        about = f"at most about {step['seconds']:.0f} s" if step["seconds"] else ""
        lines.append(f"{step['step']:14}{step['state']:8}{about}".rstrip())
    calls = [calls_summary(plan["llm"])] if plan["llm"] or not plan["llm_unknown"] else []
    unknown = [f"calls for {' and '.join(plan['llm_unknown'])} are not known yet"] if plan["llm_unknown"] else []
    return "\n".join([*lines, f"language model: {'; '.join([*calls, *unknown])}; nothing was written to {plan['out']}"])


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
