"""What calls cost, and a budget that is never passed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bessemer.config import LLMConfig
from bessemer.errors import BudgetError


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


class Ledger:
    """The calls of one run. Prices are per million tokens, in whatever currency; without them costs are unknown.

    A call is reserved at its worst before it is made and settled at what it took, so that calls in flight together do
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
        self.spent = Tokens(0, 0)
        self.kept = Tokens(0, 0)
        self.n_calls = self.n_kept = 0

    @classmethod
    def of(cls, config: LLMConfig) -> Ledger:
        """With the prices and limits of the configuration."""
        return cls(
            input_price=config.input_price,
            output_price=config.output_price,
            max_cost=config.max_cost,
            max_tokens=config.max_tokens,
        )

    def reserve(self, worst: Tokens) -> None:
        """Raises BudgetError when the call might pass the budget; nothing is reserved then."""
        after = self.spent + self._reserved + worst
        if after.total > self._max_tokens:
            raise BudgetError(f"--max-tokens {self._max_tokens:,.0f}: the next call might pass it")
        cost = self.cost(after)
        if cost is not None and cost > self._max_cost:
            raise BudgetError(f"--max-cost {self._max_cost:g}: the next call might pass it")
        self._reserved += worst

    def settle(self, worst: Tokens, took: Tokens | None) -> None:
        """The reserved call is over; None: it failed, and nothing is owed."""
        self._reserved -= worst
        if took is not None:
            self.spent += took
            self.n_calls += 1

    def note_kept(self, tokens: Tokens) -> None:
        """An answer of an earlier run served."""
        self.kept += tokens
        self.n_kept += 1

    def cost(self, tokens: Tokens) -> float | None:
        """None where no prices are known."""
        if self._prices is None:
            return None
        return (tokens.input * self._prices[0] + tokens.output * self._prices[1]) / 1e6

    def account(self) -> dict[str, float | int | None]:
        """For reports: this run, and what earlier ones had paid for."""
        return {
            "calls": self.n_calls,
            "input_tokens": self.spent.input,
            "output_tokens": self.spent.output,
            "cost": self.cost(self.spent),
            "calls_kept_from_before": self.n_kept,
            "tokens_kept_from_before": self.kept.total,
            "cost_before": self.cost(self.kept),
        }

    def stopped(self, error: BudgetError) -> BudgetError:
        """The error with what was spent, once calls in flight have come back."""
        cost = self.cost(self.spent)
        spent = f"{self.spent.total:,} tokens" + (f", {cost:.4f}" if cost is not None else "")
        return BudgetError(
            f"{error} ({self.n_calls} calls made, {spent}); all answers are kept: raise the limit and run the same "
            "command again"
        )


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, rather too many: three ASCII characters each, and every other one its own."""
    n_ascii = len(text.encode("ascii", "ignore"))
    return math.ceil(n_ascii / 3) + len(text) - n_ascii
