"""Our scores against FlagEmbedding 1.4.2's: its numbers, frozen; recomputed where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_m3 import PAIRS, flag_embedding_scores, write_tiny_m3
from tiny_models import words

from bessemer.encoders.load import load_encoder
from bessemer.encoders.unified import UnifiedEncoder
from bessemer.encoders.unified_settings import LaneWeights

FROZEN = {
    "dense": [0.9424034, 0.9354627, 0.8921447, 0.9227479, 0.8277851, 0.8451753],
    "sparse": [2.3963661, 0.0, 0.3262258, 0.3689650, 10.2333278, 0.0],
    "colbert": [0.8494051, 0.8167918, 0.8072591, 0.8769427, 0.7148858, 0.8446543],
}
"""FlagEmbedding 1.4.2 on `tiny_m3`, each pair alone (`python tests/encoders/tiny_m3.py` prints them)."""

UNLIKE = (words(55), words(19))
"""Of the query's two tokens one is unlike both of the passage's: its largest similarity is below zero."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("m3") / "tiny"
    write_tiny_m3(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> UnifiedEncoder:
    encoder = load_encoder(str(folder), device="cpu", bf16=False)
    assert isinstance(encoder, UnifiedEncoder)
    return encoder.with_settings(multi_vector_precision="float32")


def test_the_scores_are_flag_embeddings(encoder: UnifiedEncoder) -> None:
    scores = encoder.compute_score(PAIRS)
    np.testing.assert_allclose(scores.dense, FROZEN["dense"], atol=1e-4)
    np.testing.assert_allclose(scores.sparse, FROZEN["sparse"], atol=1e-4)
    np.testing.assert_allclose(scores.multi_vector, FROZEN["colbert"], atol=1e-4)
    together = np.add(FROZEN["dense"], 0.3 * np.array(FROZEN["sparse"])) + FROZEN["colbert"]
    np.testing.assert_allclose(scores.ensemble, together, atol=2e-4)
    assert encoder.lane_weights == LaneWeights(1.0, 0.3, 1.0)


def test_a_similarity_below_zero_stays_below_zero_beside_a_longer_passage(encoder: UnifiedEncoder) -> None:
    """FlagEmbedding's padding has zero vectors, which such a token then matches: the score depends on the batch."""
    alone = encoder.compute_score([UNLIKE]).multi_vector
    beside = encoder.compute_score([UNLIKE, (words(55), words(*range(40)))]).multi_vector
    assert alone is not None
    assert beside is not None
    assert alone[0] == pytest.approx(-0.0358, abs=1e-3)
    assert beside[0] == pytest.approx(alone[0], abs=1e-6)


def test_the_numbers_are_still_flag_embeddings(folder: Path, encoder: UnifiedEncoder, tmp_path: Path) -> None:
    flag = pytest.importorskip("FlagEmbedding")
    found = flag_embedding_scores(folder, PAIRS)
    for lane, scores in FROZEN.items():
        np.testing.assert_allclose(found[lane], scores, atol=1e-5)

    encoder.save(tmp_path / "saved")  # it opens what we write
    again = flag_embedding_scores(tmp_path / "saved", PAIRS)
    for lane, scores in FROZEN.items():
        np.testing.assert_allclose(again[lane], scores, atol=1e-5)

    model = flag.BGEM3FlagModel(str(folder), use_fp16=False, devices="cpu")
    padded = model.compute_score([UNLIKE, (words(55), words(*range(40)))])["colbert"][0]
    ours = encoder.compute_score([UNLIKE]).multi_vector
    assert ours is not None
    assert flag_embedding_scores(folder, [UNLIKE])["colbert"][0] == pytest.approx(ours[0], abs=1e-5)
    assert padded > ours[0] + 0.01
