from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from handbook import QUESTION, TEXTS
from sentence_transformers import SentenceTransformer

pytest.importorskip("mteb")

from mteb.models import EncoderProtocol
from mteb.types import PromptType

from bessemer.clients.mteb import BessemerEncoder
from bessemer.encoders.dense import DenseEncoder

OF_THE_TASK: dict[str, Any] = {"task_metadata": None, "hf_split": "test", "hf_subset": "default"}


def test_it_is_an_encoder_to_mteb(prompted: DenseEncoder) -> None:
    encoder = BessemerEncoder(prompted)
    assert isinstance(encoder, EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.max_tokens, meta.use_instructions) == ("bessemer/tuned", 384, 256, True)


def test_what_shapes_vectors_is_in_the_revision(prompted: DenseEncoder, minilm: DenseEncoder) -> None:
    models = prompted, prompted.for_task("", max_length=16), minilm
    revisions = [BessemerEncoder(model).mteb_model_meta.revision for model in models]
    assert len(set(revisions)) == 3
    assert BessemerEncoder(prompted).mteb_model_meta.revision == revisions[0]


def test_each_side_has_its_prompt(prompted: DenseEncoder) -> None:
    encoder = BessemerEncoder(prompted)
    texts = list(TEXTS.values())
    batches = [{"text": texts[:3]}, {"text": texts[3:]}]
    passages = encoder.encode(batches, prompt_type=PromptType.document, batch_size=2, **OF_THE_TASK)
    np.testing.assert_allclose(passages, prompted.encode_passages(texts).dense, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(batches, **OF_THE_TASK), passages, atol=1e-5)
    query = encoder.encode([{"text": [QUESTION]}], prompt_type=PromptType.query, **OF_THE_TASK)
    np.testing.assert_allclose(query, prompted.encode_queries([QUESTION]).dense, atol=1e-5)
    np.testing.assert_allclose(encoder.similarity(query, passages), query @ passages.T, atol=1e-5)


def test_a_title_stands_on_a_line_of_its_own(prompted: DenseEncoder) -> None:
    batch = {"text": ["Handbook a", "b"], "title": ["Handbook", ""], "body": ["a", "b"]}
    found = BessemerEncoder(prompted).encode([batch], prompt_type=PromptType.document, **OF_THE_TASK)
    np.testing.assert_allclose(found, prompted.encode_passages(["Handbook\na", "b"]).dense, atol=1e-5)


def test_similarity_is_the_models_own(prompted: DenseEncoder) -> None:
    model = SentenceTransformer(modules=list(prompted.model), device="cpu", similarity_fn_name="dot")
    left, right = np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 2.0]])
    assert BessemerEncoder(DenseEncoder(model, "dot")).similarity(left, right).tolist() == [[3.0, 8.0]]
    assert BessemerEncoder(prompted).similarity(left, right).numpy() == pytest.approx(np.array([[0.6, 0.8]]))
    pairwise = BessemerEncoder(prompted).similarity_pairwise(np.repeat(left, 2, 0), right)
    assert pairwise.numpy() == pytest.approx(np.array([0.6, 0.8]))
