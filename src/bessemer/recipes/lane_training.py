"""What fine-tuning does otherwise for sentence-transformers' sparse (SPLADE) and multi-vector (ColBERT) models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError

from bessemer.config import Config, FinetuneConfig, NegativesConfig
from bessemer.encoders.encoder import Encoded, Encoder, Side, Similarity
from bessemer.encoders.kinds import DESCRIBED, kind_of
from bessemer.encoders.multi_vector import MultiVectorEncoder, load_multi_vector
from bessemer.encoders.sparse import SparseEncoder, load_sparse
from bessemer.encoders.trainable import Trainable
from bessemer.errors import ConfigError
from bessemer.recipes.data import open_encoder
from bessemer.recipes.lane_models import foreign_options
from bessemer.recipes.systems import dense_over, multi_vectors_over, sparse_over
from bessemer.types import Hits, Passage

SPLADE_DEFAULTS = {"flops_query": 5e-5, "flops_passage": 3e-5}
"""Those of sentence-transformers' SpladeLoss examples."""
STRATEGIES_OF_WORDS = ("bm25", "random", "same_document")


class Searches(Protocol):
    def search(self, texts: Sequence[str], top_k: int) -> list[Hits]: ...


def settled_for_kind(config: Config) -> Config:
    """``config`` with the head and the defaults of a model that is sparse or multi-vector; of other models, as it is.

    The kind is taken where no head is asked for: such a model has but one thing to train. Raises ConfigError where
    another head is, and for options that do not go with it.
    """
    kind = kind_of(config.model, config.trust_remote_code)
    if kind not in ("sparse", "multi"):
        return config
    asked = config.finetune
    if asked.head not in (None, kind):
        raise ConfigError(
            f"--head {asked.head}: {config.model} is {DESCRIBED[kind]}, which has no other head; give --head "
            f"{kind}, or a dense model, which gets heads"
        )
    defaults = SPLADE_DEFAULTS if kind == "sparse" else {}
    unset = {name: value for name, value in defaults.items() if getattr(asked, name) is None}
    try:
        finetune = FinetuneConfig.model_validate({**asked.model_dump(exclude_unset=True), **unset, "head": kind})
    except ValidationError as error:
        raise ConfigError("; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())) from None
    return config.model_copy(update={"finetune": finetune})


def open_to_train(config: Config, model: str) -> Trainable:
    """A model of the kind that ``config.finetune.trained_head`` trains; dense and unified ones as `open_encoder`."""
    kind = kind_of(model, config.trust_remote_code)
    if kind == "sparse":
        return load_sparse(model, **foreign_options(config))
    if kind == "multi":
        return load_multi_vector(model, **foreign_options(config))
    return open_encoder(config, model)


def own_lane_over(passages: Sequence[Passage], encoder: Encoder) -> Searches:
    """Exact search by what the model gives: sparse weights, token vectors or dense vectors."""
    if isinstance(encoder, SparseEncoder):
        return sparse_over(passages, encoder)[0]
    if isinstance(encoder, MultiVectorEncoder):
        return multi_vectors_over(passages, encoder)[0]
    return dense_over(passages, encoder)


class NoVectors:
    """For mining without a dense model: all texts are equally like each other, so that words alone decide, and every
    candidate is compared with the positives word by word."""

    similarity: Similarity = "cosine"
    fingerprint = "no vectors"

    def fingerprint_of(self, side: Side) -> str:
        return self.fingerprint

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        return Encoded(dense=np.ones((len(texts), 1), dtype=np.float32))

    encode_passages = encode_queries


def by_words(config: NegativesConfig) -> NegativesConfig:
    """Negatives from BM25, at random or from the positive's document, without margins, which compare similarities.
    Raises ConfigError for strategies that need them."""
    strategy = "bm25" if config.strategy == "top_k" else config.strategy
    if strategy not in STRATEGIES_OF_WORDS or config.absolute_margin is not None:
        what = "absolute_margin" if strategy in STRATEGIES_OF_WORDS else f"strategy {strategy}"
        raise ConfigError(
            f"negatives.{what}: goes by dense vectors, which this model does not give; mine with `bessemer negatives "
            f"--model DENSE` and give its file as --data, or take one of {', '.join(STRATEGIES_OF_WORDS)}"
        )
    changes: dict[str, Any] = {"strategy": strategy, "candidates": "bm25", "relative_margin": 0.0}
    return config.model_copy(update=changes)
