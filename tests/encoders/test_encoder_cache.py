"""The embedding cache. What was really encoded is told by the encoder's own count: every text here is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import words

from bessemer.encoders.cache import MAX_SHARD, CachedEncoder, missing, shards
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.load import load_encoder
from bessemer.errors import ConfigError

LONG = [words(i % 200, (i * 7) % 200, (i * 13) % 200, i // 200) for i in range(1500)]


def load(folder: Path, bf16: bool = False, max_length: int = 5) -> DenseEncoder:
    """Two special tokens and three of the four words: every text of LONG is cut."""
    return load_encoder(str(folder), device="cpu", bf16=bf16, max_length=max_length)


def cut_lines(texts: list[str]) -> list[int]:
    return [start for start, _, _ in shards(texts, "")] + [len(texts)]


def test_a_hit_gives_the_same_bits_without_encoding(bert_folder: Path, tmp_path: Path) -> None:
    first = CachedEncoder(load(bert_folder, bf16=True), tmp_path)
    computed = first.encode_passages(LONG[:100]).dense
    second = CachedEncoder(load(bert_folder, bf16=True), tmp_path)
    read = second.encode_passages(LONG[:100]).dense
    assert computed is not None
    np.testing.assert_array_equal(computed, read)
    assert second.encoder.n_truncated["passage"] == 0  # nothing was encoded,
    assert second.n_truncated["passage"] == first.n_truncated["passage"] == 100  # and yet the count is told
    assert (second.fingerprint, second.similarity, second.dimension) == (first.fingerprint, "cosine", 32)


def test_what_kept_vectors_had_taken_is_known(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 12.5])
    monkeypatch.setattr("bessemer.encoders.cache.time.perf_counter", lambda: next(clock))
    first = CachedEncoder(load(bert_folder), tmp_path)
    first.encode_queries(["w1"])
    assert first.kept_seconds == {"query": 0.0, "passage": 0.0}
    second = CachedEncoder(load(bert_folder), tmp_path)
    second.encode_queries(["w1"])
    assert second.kept_seconds == {"query": 2.5, "passage": 0.0}


def test_what_is_missing_is_what_would_be_encoded(bert_folder: Path, tmp_path: Path) -> None:
    encoder, folder = load(bert_folder), tmp_path / "cache"
    assert missing(encoder, folder, LONG, "passage") == LONG
    assert not folder.exists()
    cached = CachedEncoder(encoder, folder)
    cached.encode_passages(LONG[:-1])
    left = missing(encoder, folder, LONG, "passage")
    assert left == LONG[cut_lines(LONG)[-2] :]  # the last shard has one text more than it had
    assert missing(encoder, folder, LONG, "query") == LONG
    before = encoder.n_truncated["passage"]
    cached.encode_passages(LONG)
    assert encoder.n_truncated["passage"] - before == len(left)


def test_cached_vectors_are_the_encoders(bert_folder: Path, tmp_path: Path) -> None:
    encoder = load(bert_folder)
    cached = CachedEncoder(encoder, tmp_path)
    np.testing.assert_allclose(cached.encode_passages(LONG).dense, encoder.encode(LONG, "passage"), atol=1e-5)
    np.testing.assert_allclose(cached.encode_queries(LONG[:9]).dense, encoder.encode(LONG[:9], "query"), atol=1e-5)
    assert CachedEncoder(encoder, tmp_path).encode_queries([]).dense.shape == (0, 32)


def test_ten_more_texts_touch_the_last_shard_only(bert_folder: Path, tmp_path: Path) -> None:
    more = [words(150, i, 3, 4) for i in range(10)]
    cuts = cut_lines(LONG + more)
    assert len(cuts) > 3
    CachedEncoder(load(bert_folder), tmp_path).encode_passages(LONG)
    grown = CachedEncoder(load(bert_folder), tmp_path)
    vectors = grown.encode_passages(LONG + more).dense
    first_changed = max(cut for cut in cuts if cut <= len(LONG))
    assert grown.encoder.n_truncated["passage"] == len(LONG) + 10 - first_changed < len(LONG)
    np.testing.assert_allclose(vectors, load(bert_folder).encode(LONG + more, "passage"), atol=1e-5)


def test_one_changed_text_touches_its_shard_only(bert_folder: Path, tmp_path: Path) -> None:
    CachedEncoder(load(bert_folder), tmp_path).encode_passages(LONG)
    changed = [words(199, 199, 199, 199), *LONG]  # all texts move by one place
    cached = CachedEncoder(load(bert_folder), tmp_path)
    cached.encode_passages(changed)
    assert cached.encoder.n_truncated["passage"] == cut_lines(changed)[1] < len(LONG)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_damaged_files_are_computed_again(bert_folder: Path, tmp_path: Path, damage: str) -> None:
    cached = CachedEncoder(load(bert_folder), tmp_path)
    vectors = cached.encode_passages(LONG[:20]).dense
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    broken = {"cut": whole[:-9], "flip": whole[:-1] + bytes([whole[-1] ^ 1]), "empty": b"", "other": b"x" * 999}
    file.write_bytes(broken[damage])
    again = CachedEncoder(load(bert_folder), tmp_path)
    np.testing.assert_array_equal(again.encode_passages(LONG[:20]).dense, vectors)
    assert again.encoder.n_truncated["passage"] == 20
    healed = CachedEncoder(load(bert_folder), tmp_path)
    np.testing.assert_array_equal(healed.encode_passages(LONG[:20]).dense, vectors)
    assert healed.encoder.n_truncated["passage"] == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]  # no temporary file stays


def test_nothing_else_ever_hits(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Another checkpoint in a folder of the same name, another precision, another length, the other side."""
    folder = tiny_folder("model")
    CachedEncoder(load(folder), tmp_path).encode_passages(LONG[:20])
    others = [load(tiny_folder("model", seed=1)), load(folder, bf16=True), load(folder, max_length=4)]
    for encoder in others:
        vectors = CachedEncoder(encoder, tmp_path).encode_passages(LONG[:20]).dense
        assert encoder.n_truncated["passage"] >= 20
        np.testing.assert_array_equal(vectors, encoder.encode(LONG[:20], "passage"))
    same = load(folder)
    CachedEncoder(same, tmp_path).encode_queries(LONG[:20])
    assert same.n_truncated == {"query": 20, "passage": 0}


def test_a_shard_that_cannot_be_written_costs_nothing_but_the_entry(
    bert_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached = CachedEncoder(load(bert_folder), tmp_path)
    for first_byte in range(256):  # where the shard's folder would be, a file is in the way
        (tmp_path / f"{first_byte:02x}").write_text("")
    vectors = cached.encode_passages(LONG[:20]).dense
    np.testing.assert_array_equal(vectors, cached.encoder.encode(LONG[:20], "passage"))
    assert "not cached" in caplog.text


def test_a_cache_folder_that_cannot_be_made(tiny_static: DenseEncoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot be made"):
        CachedEncoder(tiny_static, tmp_path / "file" / "cache")


@given(st.lists(st.text(max_size=3), max_size=50), st.text(max_size=3))
def test_shards_cover_every_text_once_and_keys_tell_settings(texts: list[str], settings: str) -> None:
    found = list(shards(texts, settings))
    assert [start for start, _, _ in found] == [0, *(end for _, end, _ in found)][:-1]
    assert (found[-1][1] if found else 0) == len(texts)
    other = {key for _, _, key in shards(texts, settings + "x")}
    assert not other & {key for _, _, key in found}


def test_shards_are_bounded() -> None:
    assert max(end - start for start, end, _ in shards(["same"] * 5000, "")) <= MAX_SHARD
