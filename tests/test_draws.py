from __future__ import annotations

import hashlib

from bessemer.draws import uniform


def test_uniform_is_the_leading_bits_of_sha256() -> None:
    """Of 64 bits; half of a surrogate pair in an id counts as its three bytes."""
    assert uniform(42, "a.md") == int(hashlib.sha256(b"42\0a.md").hexdigest()[:16], 16) / 2**64
    assert uniform(7, "\ud800") == int(hashlib.sha256(b"7\0\xed\xa0\x80").hexdigest()[:16], 16) / 2**64
