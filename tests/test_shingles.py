from __future__ import annotations

from bessemer.shingles import jaccard, shingles


def test_jaccard_of_shingles_by_hand() -> None:
    # a b c d e -> abc bcd cde; a b c d x -> abc bcd cdx: 2 common of 4.
    assert jaccard(shingles("aa bb cc dd ee"), shingles("aa bb cc dd xx")) == 0.5
    # Chinese: 4 characters; 6 characters make 3, the last of them differs: 2 of 4.
    assert jaccard(shingles("今天天气很好"), shingles("今天天气很坏")) == 0.5
    assert jaccard(shingles("two words"), shingles("Two words!")) == 1.0
