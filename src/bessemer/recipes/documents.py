"""Documents to a judged collection: passages, splits by document, and questions for each split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bessemer.config import Config
from bessemer.content_hash import VisibleFiles
from bessemer.corpus.chunk import CountTokens
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.dense import DenseEncoder
from bessemer.llm.client import Client
from bessemer.recipes.adapt_plan import Plan
from bessemer.recipes.data import Material, account, capped, input_name, passage_tokens
from bessemer.recipes.generated import estimate
from bessemer.recipes.prepare import Prepared, prepare
from bessemer.recipes.questions import ask, wants_llm
from bessemer.workspace import Workspace


def material_from_documents(
    config: Config, encoder: DenseEncoder, workspace: Workspace, llm: Client | None, planned: Plan
) -> Material:
    """Read, chunk and split ``config.source``; have questions written, or extract them, beside ``config.queries``. In a
    dry run ``planned`` learns what the language model would be asked."""
    assert config.source is not None
    limit = passage_tokens(config, encoder)
    settings = Config(chunking=config.chunking, split=config.split, seed=config.seed)
    source = VisibleFiles(Path(config.source))
    prepared = workspace.step("documents", prepare_source, source, settings, encoder.count_tokens, limit)
    own = Path(config.queries) if config.queries else None
    asks = wants_llm(config.questions, llm)
    finder = CachedEncoder(encoder, workspace.root / "embeddings") if asks else None
    inputs = (prepared, config.questions, own, llm if asks else None, finder, config.seed)
    if llm is not None and asks and workspace.dry_run and not workspace.is_done("questions", ask, *inputs):
        planned.llm = estimate(prepared.passages, prepared.splits, llm, config.questions, config.seed)
    questions = workspace.step("questions", ask, *inputs)
    funnel = [*prepared.funnel, *questions.funnel]
    named = replace(questions.collection, name=input_name(config))
    collection, told = capped(named, config.finetune.max_train_queries, config.seed)
    notes = [f"passages are at most {limit} tokens long with their headings", *questions.notes, *told]
    return Material(
        collection,
        account(collection, warnings=notes, n_documents=len(prepared.documents), funnel=funnel, llm=questions.llm),
        dropped=(*prepared.dropped, *questions.dropped),
        whole=prepared.passages,
    )


def prepare_source(source: VisibleFiles, settings: Config, count_tokens: CountTokens, max_tokens: int) -> Prepared:
    """`prepare`, with the source as files, so that their content is part of the step's key."""
    return prepare(settings.model_copy(update={"source": str(source.path)}), count_tokens, max_tokens)
