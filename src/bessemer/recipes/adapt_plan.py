"""What `adapt` would do: which steps are done, which would run, and about how long they take here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bessemer.config import Config
from bessemer.encoders.dense import DenseEncoder
from bessemer.recipes.encoding_plan import seconds_per_text, training_seconds
from bessemer.recipes.final_fit import n_pairs
from bessemer.recipes.plan import CACHED, TO_RUN, step_of
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
                step_of(step, seconds.get(step), CACHED if i < place else TO_RUN) for i, step in enumerate(steps)
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
        n_dev = len(splits["dev"].queries) if "dev" in splits else 0
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
