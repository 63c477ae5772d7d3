"""What `teacher` would do: how many pairs are left to score, and what an endpoint would take for them at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.answers.answer import answer_request
from bessemer.config import Config
from bessemer.formats.loaded import Notes
from bessemer.llm.client import SECONDS_PER_CALL
from bessemer.llm.completions import CompletionsModel
from bessemer.llm.ledger import CHARACTERS_PER_TOKEN, Ledger, Tokens, estimated_tokens
from bessemer.recipes.generated import open_llm
from bessemer.recipes.plan import asking_summary, calls_in_all
from bessemer.recipes.teacher import SCORES, Candidates, answer_in, read_candidates, require_possible
from bessemer.recipes.teachers import LikelihoodTeacher, Pair, Teacher, open_teacher
from bessemer.score_cache import ScoreCache


def plan_teacher(config: Config) -> Mapping[str, Any]:
    """``llm``: what answers that are missing and an endpoint's scores would take, None where nothing will be asked. An
    answer that is still to be written counts as long as it may be. Raises as `teacher` does for its file and model."""
    require_possible(config)
    rows = read_candidates(config, Notes())
    judge = open_teacher(config)
    silent = [row for row in rows if config.teacher.kind == "llm" and not row.pairs[0].answers]
    asked, of_answers = _with_answers(silent, config) if silent else ([], None)
    left = _unscored({pair for row in (*rows, *asked) if row not in silent for pair in row.pairs}, judge, config)
    return {
        "rows": len(rows),
        "pairs": len({pair for row in rows for pair in row.pairs}),
        "to_score": len(left),
        "answers_to_write": of_answers["calls"] if of_answers else 0,
        "llm": calls_in_all(of_answers, _of_endpoint(left, judge, config)),
    }


def teacher_plan_summary(plan: Mapping[str, Any]) -> str:
    missing = f", {plan['answers_to_write']:,} answers to write" if plan["answers_to_write"] else ""
    return (
        f"{plan['rows']:,} rows, {plan['pairs']:,} pairs: {plan['to_score']:,} to score{missing}\n"
        f"{asking_summary(plan['llm'])}"
    )


def _with_answers(silent: Sequence[Candidates], config: Config) -> tuple[list[Candidates], Mapping[str, Any]]:
    """The rows with the answer that is kept, or else one as long as it may be; and what asking for those takes."""
    requests = [answer_request(row.pairs[0].query, row.positives) for row in silent]
    with open_llm(config, dry_run=True) as llm:
        assert llm  # without one such rows are refused as they are read
        kept = [llm.kept(request) for request in requests]
        estimate = llm.estimate(list(dict.fromkeys(requests)))
    longest = "x" * (CHARACTERS_PER_TOKEN * requests[0].max_tokens)
    answers = [
        answer_in(reply, len(row.positives)) if reply else longest for row, reply in zip(silent, kept, strict=True)
    ]
    return [row.answered(answer) for row, answer in zip(silent, answers, strict=True)], estimate


def _unscored(pairs: set[Pair], judge: Teacher, config: Config) -> list[Pair]:
    file = config.workspace_folder / SCORES
    if not file.exists():
        return list(pairs)
    with ScoreCache(file) as cache:
        return [pair for pair in pairs if cache.get(judge.key(pair)) is None]


def _of_endpoint(pairs: Sequence[Pair], judge: Teacher, config: Config) -> Mapping[str, Any] | None:
    """One call for each answer of a pair, and one that finds out what the endpoint speaks."""
    if not (pairs and isinstance(judge, LikelihoodTeacher) and isinstance(judge.model, CompletionsModel)):
        return None
    taken = [estimated_tokens(one.text) for pair in pairs for one in judge.completions(pair)]
    tokens = Tokens(sum(taken), len(taken))
    return {
        "calls": len(taken) + 1,
        "calls_kept": 0,
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cost": Ledger.of(config.llm).cost(tokens),
        "seconds": SECONDS_PER_CALL * len(taken) / config.llm.concurrency,
        "seconds_guessed": True,
    }
