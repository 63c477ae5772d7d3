from __future__ import annotations

from bessemer.llm.batches import LEAST_PREFIX, Tokens, plan

SHARED = tuple(range(20))


def test_texts_of_one_passage_share_what_they_begin_with() -> None:
    tokens = {
        3: Tokens((*SHARED, 50, 51, 52), 22),
        5: Tokens((*SHARED, 50, 60), 21),
        7: Tokens((*SHARED, 70), 20),
    }
    ((prefix, (batch,)),) = plan(tokens, dict.fromkeys(tokens, "passage"), max_tokens=100, least_sharing=2)
    assert prefix == SHARED[:19]  # the 20th token predicts the answer of text 7, which has to run it
    assert (batch.places, batch.n_prefix) == ((3, 5, 7), 19)
    assert batch.tokens == (Tokens((19, 50, 51, 52), 3), Tokens((19, 50, 60), 2), Tokens((19, 70), 1))


def test_others_go_in_batches_of_similar_length_the_longest_first() -> None:
    lengths = [10, 40, 12, 39, 100, 11]
    tokens = {place: Tokens(tuple(range(n)), n - 1) for place, n in enumerate(lengths)}
    ((prefix, batches),) = plan(tokens, {place: place for place in tokens}, max_tokens=80, least_sharing=2)
    assert prefix == ()
    assert [batch.places for batch in batches] == [(4,), (1, 3), (2, 5, 0)]
    assert [batch.tokens for batch in batches[:1]] == [(tokens[4],)]


def test_too_few_texts_or_too_short_a_prefix_are_not_worth_it() -> None:
    short = {i: Tokens((*range(LEAST_PREFIX), 50 + i), LEAST_PREFIX) for i in range(4)}
    long = {i: Tokens((*range(LEAST_PREFIX + 1), 50 + i), LEAST_PREFIX + 1) for i in range(4)}
    one = dict.fromkeys(range(4), "passage")
    assert [prefix for prefix, _ in plan(short, one, 100, 2)] == [()]
    assert [len(prefix) for prefix, _ in plan(long, one, 100, 4)] == [LEAST_PREFIX]
    assert [prefix for prefix, _ in plan(long, one, 100, 5)] == [()]


def test_keys_and_values_of_a_batch_are_bounded() -> None:
    tokens = {i: Tokens((*range(100), i, i), 101) for i in range(10)}
    ((_, batches),) = plan(tokens, dict.fromkeys(tokens, "passage"), max_tokens=25, least_sharing=2)
    assert [len(batch.places) for batch in batches] == [1] * 10  # 8 * 25 tokens hold one row of 102
    ((_, batches),) = plan(tokens, dict.fromkeys(tokens, "passage"), max_tokens=51, least_sharing=2)
    assert [len(batch.places) for batch in batches] == [4, 4, 2]
