"""What calls cost, and a budget that is never passed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bessemer.config import LLMConfig
from bessemer.errors import BudgetError

CHARACTERS_PER_TOKEN = 3
"""ASCII characters but digits, rather too few; every other character counts as a token of its own."""


@dataclass(frozen=True)
class Tokens:
    """Of the text that a call sends, and of that which comes back."""

    input: int
    output: int

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.input - other.input, self.output - other.output)

    @property
    def total(self) -> int:
        return self.input + self.output


@dataclass(frozen=True)
class Usage:
    """``n_calls`` that took ``spent``, and ``n_kept`` answers of earlier runs that served and had taken ``kept``."""

    n_calls: int = 0
    spent: Tokens = Tokens(0, 0)
    n_kept: int = 0
    kept: Tokens = Tokens(0, 0)

    def __add__(self, other: Usage) -> Usage:
        counts = (self.n_calls + other.n_calls, self.n_kept + other.n_kept)
        return Usage(counts[0], self.spent + other.spent, counts[1], self.kept + other.kept)

    def __sub__(self, other: Usage) -> Usage:
        counts = (self.n_calls - other.n_calls, self.n_kept - other.n_kept)
        return Usage(counts[0], self.spent - other.spent, counts[1], self.kept - other.kept)


class Ledger:
    """The calls of one run. Prices are per million tokens, in whatever currency; without them costs are unknown.

    A send is reserved at its worst before it is made and settled at what it took, so that sends in flight together do
    not pass the budget that each alone would keep. What an earlier run paid for is counted, not paid again.
    """

    def __init__(
        self,
        *,
        input_price: float | None = None,
        output_price: float | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self._prices = None if input_price is None or output_price is None else (input_price, output_price)
        self._max_cost = math.inf if max_cost is None else max_cost
        self._max_tokens = math.inf if max_tokens is None else max_tokens
        self._reserved = Tokens(0, 0)
        self.usage = Usage()

    @classmethod
    def of(cls, config: LLMConfig) -> Ledger:
        """With the prices and limits of the configuration."""
        return cls(
            input_price=config.input_price,
            output_price=config.output_price,
            max_cost=config.max_cost,
            max_tokens=config.max_tokens,
        )

    def reserve(self, worst: Tokens) -> bool:
        """Whether the send may be made now, and is reserved. False: not beside those in flight, which may take less
        than was reserved for them. Raises BudgetError when it might pass the budget even without them."""
        fault = self._passed_by(self.usage.spent + worst)
        if fault:
            raise BudgetError(f"{fault}: the next call might pass it")
        if self._passed_by(self.usage.spent + self._reserved + worst):
            return False
        self._reserved += worst
        return True

    def settle(self, worst: Tokens, took: Tokens | None) -> None:
        """What was reserved is over; None: nothing is owed for it."""
        self._reserved -= worst
        if took is not None:
            self.usage += Usage(n_calls=1, spent=took)

    def note_kept(self, tokens: Tokens) -> None:
        """An answer of an earlier run served."""
        self.usage += Usage(n_kept=1, kept=tokens)

    def cost(self, tokens: Tokens) -> float | None:
        """None where no prices are known."""
        if self._prices is None:
            return None
        return (tokens.input * self._prices[0] + tokens.output * self._prices[1]) / 1e6

    def _passed_by(self, tokens: Tokens) -> str:
        """The limit that ``tokens`` would pass, or nothing."""
        if tokens.total > self._max_tokens:
            return f"--max-tokens {self._max_tokens:,.0f}"
        cost = self.cost(tokens)
        return f"--max-cost {self._max_cost:g}" if cost is not None and cost > self._max_cost else ""

    def account(self, since: Usage = Usage()) -> dict[str, float | int | None]:
        """For reports: this run, or what came after it stood at ``since``; and what earlier runs had paid for."""
        usage = self.usage - since
        return {
            "calls": usage.n_calls,
            "input_tokens": usage.spent.input,
            "output_tokens": usage.spent.output,
            "cost": self.cost(usage.spent),
            "calls_kept_from_before": usage.n_kept,
            "tokens_kept_from_before": usage.kept.total,
            "cost_before": self.cost(usage.kept),
        }

    def spent_in_words(self, decimals: int) -> str:
        """Tokens and, with prices, money."""
        cost = self.cost(self.usage.spent)
        return f"{self.usage.spent.total:,} tokens" + (f", {cost:.{decimals}f}" if cost is not None else "")

    def stopped(self, error: BudgetError) -> BudgetError:
        """The error with what was spent, once calls in flight have come back."""
        return BudgetError(
            f"{error} ({self.usage.n_calls} calls made, {self.spent_in_words(4)}); all answers are kept: raise the "
            "limit and run the same command again"
        )


def total_account(accounts: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """Several accounts as one; a cost that one of them does not know is unknown."""
    columns = {key: [account[key] for account in accounts] for key in Ledger().account()}
    return {key: None if None in values else sum(values) for key, values in columns.items()}


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, rather too many: many tokenizers take digits one by one."""
    n_ascii = len(text.encode("ascii", "ignore"))
    n_digits = sum(map(text.count, "0123456789"))
    return math.ceil((n_ascii - n_digits) / CHARACTERS_PER_TOKEN) + n_digits + len(text) - n_ascii
