"""Documents to a judged collection: passages, splits by document, and questions for each split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bessemer.config import Config
from bessemer.corpus.chunk import CountTokens
from bessemer.encoders.dense import DenseEncoder
from bessemer.recipes.data import Material, account, input_name, passage_tokens
from bessemer.recipes.prepare import Prepared, funnel_stage, prepare
from bessemer.recipes.questions import ask, n_queries
from bessemer.workspace import Workspace


def material_from_documents(config: Config, encoder: DenseEncoder, workspace: Workspace) -> Material:
    """Read, chunk and split ``config.source``; extract questions, or take ``config.queries`` and extract the rest."""
    assert config.source is not None
    limit = passage_tokens(config, encoder)
    settings = Config(chunking=config.chunking, split=config.split, seed=config.seed)
    prepared = workspace.step("documents", prepare_source, Path(config.source), settings, encoder.count_tokens, limit)
    own = Path(config.queries) if config.queries else None
    questions = workspace.step("questions", ask, prepared, config.questions, own, config.seed)
    funnel = [*prepared.funnel, funnel_stage("questions", n_queries(questions.collection), questions.dropped)]
    collection = replace(questions.collection, name=input_name(config))
    notes = [f"passages are at most {limit} tokens long with their headings", *questions.notes]
    return Material(
        collection,
        account(collection, warnings=notes, n_documents=len(prepared.documents), funnel=funnel),
        dropped=(*prepared.dropped, *questions.dropped),
        whole=prepared.passages,
    )


def prepare_source(source: Path, settings: Config, count_tokens: CountTokens, max_tokens: int) -> Prepared:
    """`prepare`, with the source as a path, so that its content is part of the step's key."""
    return prepare(settings.model_copy(update={"source": str(source)}), count_tokens, max_tokens)
