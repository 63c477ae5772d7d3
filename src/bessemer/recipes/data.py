"""What the recipes start from: judged data as it is, or documents turned into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bessemer.config import Config, NegativesConfig
from bessemer.draws import digest
from bessemer.encoders.cache import CachedEncoder
from bessemer.encoders.cpu.encoder import CpuEncoder
from bessemer.encoders.cpu.manifest import find_build, is_build
from bessemer.encoders.cpu.open import open_build
from bessemer.encoders.dense import DenseEncoder
from bessemer.encoders.encoder import Encoder, Side
from bessemer.encoders.kinds import DESCRIBED, Kind, kind_of
from bessemer.encoders.load import load_encoder
from bessemer.errors import ConfigError
from bessemer.formats import Columns, Loaded, load_collection
from bessemer.negatives import Corpus, mine_from
from bessemer.recipes.kept_reranker import RERANKER_SCORES, KeptReranker
from bessemer.search.rerank import CrossEncoderReranker
from bessemer.search.stores.engines import ADDRESS
from bessemer.training.batches import Miner
from bessemer.types import Collection, Dropped, HardNegatives, Judged, Passage

STATIC_PASSAGE_TOKENS = 256
"""Passage length for models without a limit of their own."""
LONGEST_BY_DEFAULT = 512
"""Models that read thousands of tokens cost thousands of tokens: longer passages are asked for with --max-length."""
_USES_OF_OTHERS: Mapping[Kind, str] = {
    "sparse": "`finetune --head sparse` trains it, `evaluate --system NAME=sparse:MODEL` measures it",
    "multi": "`finetune --head multi` trains it, `evaluate --system NAME=multi:MODEL` measures it",
    "cross-encoder": "it ranks again what others found (--reranker), or teaches (`teacher --teacher cross-encoder`)",
}


@dataclass(frozen=True)
class Material:
    """A collection ready for training, and what became of everything on the way to it.

    ``account`` is the ``data`` part of report.json; ``given_negatives`` and ``teacher_scores`` (query_id ->
    {passage_id: score}) are those that the data brought along.
    ``whole`` holds the passages as they are searched, where questions were taken out of those of the collection.
    ``columns`` are BGE's own of the rows, by name and query_id, for files that are written from them.
    """

    collection: Collection
    account: Mapping[str, Any]
    given_negatives: tuple[HardNegatives, ...] = ()
    teacher_scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    dropped: tuple[Dropped, ...] = ()
    whole: tuple[Passage, ...] = ()
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def served(self) -> tuple[Passage, ...]:
        """What an index holds: nothing is withheld from people who search."""
        return self.whole or self.collection.passages


def load_judged(config: Config, *, require: Sequence[str]) -> Material:
    """Judged data from ``config.data``: never deduplicated, chunked or split anew; faults are warnings with counts."""
    loaded = open_collection(config, require=require)
    collection, notes = capped(loaded.collection, config.finetune.max_train_queries, config.seed)
    told = account(collection, warnings=[*loaded.warnings, *notes])
    columns = {"prompt": loaded.prompts, "type": loaded.types}
    return Material(collection, told, loaded.negatives, loaded.teacher_scores, columns=columns)


def open_collection(config: Config, *, require: Sequence[str] = ()) -> Loaded:
    """``config.data`` in whatever format it has, with the column mapping if one is given."""
    assert config.data is not None
    return load_collection(config.data, seed=config.seed, require=require, columns=columns_of(config))


def columns_of(config: Config) -> Columns | None:
    """The column mapping of ``config.data``, if one is given."""
    return Columns(**config.columns.model_dump()) if config.columns else None


def account(
    collection: Collection,
    *,
    warnings: Sequence[str] = (),
    n_documents: int | None = None,
    funnel: Sequence[Mapping[str, Any]] = (),
    llm: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The ``data`` part of report.json; ``llm``, the calls to a language model, is there where there were any."""
    dropped: Counter[str] = Counter()
    for stage in funnel:
        dropped.update(stage["reasons"])
    return {
        "name": collection.name,
        "documents": n_documents or len({passage.doc_id for passage in collection.passages}),
        "passages": len(collection.passages),
        "queries": {split: len(judged.queries) for split, judged in collection.splits.items()},
        "dropped": dict(dropped),
        "warnings": list(warnings),
        "funnel": list(funnel),
        **({"llm": dict(llm)} if llm else {}),
    }


def require_one_input(config: Config) -> None:
    """Raises ConfigError unless exactly one of --source and --data is given."""
    if (config.source is None) == (config.data is None):
        raise ConfigError("give either --source (documents) or --data (judged data), and not both")
    if config.queries and config.source is None:
        raise ConfigError("--queries goes with --source; judged data bring their own queries")


def require_outside(config: Config) -> None:
    """Raises ConfigError where the output or the workspace lies among the documents: the next run would read it as
    documents. What is hidden is not read, as the workspace is by default."""
    if config.source is None or not Path(config.source).is_dir():
        return
    source, workspace = Path(config.source).resolve(), config.workspace_folder.resolve()
    inside = []
    if ADDRESS not in config.out and Path(config.out).resolve().is_relative_to(source):
        inside.append(f"--out {config.out}")
    if workspace.is_relative_to(source) and not _is_hidden(workspace.relative_to(source)):
        inside.append(f"--workspace {config.workspace}")
    if inside:
        raise ConfigError(
            f"{inside[0]}: lies in --source {config.source}, where it would be read as documents; choose a folder "
            "outside"
        )


def _is_hidden(place: Path) -> bool:
    return any(part.startswith(".") for part in place.parts)


def input_name(config: Config) -> str:
    """What the collection is called: the name of the folder or file that it comes from."""
    return Path(config.source or config.data or "").resolve().name


def passage_tokens(config: Config, encoder: DenseEncoder | CpuEncoder) -> int:
    """Tokens of a passage with its headings: what is asked for, else the model's limit, else 256."""
    return config.chunking.max_tokens or encoder.max_length or STATIC_PASSAGE_TOKENS


def open_encoder(config: Config, model: str) -> DenseEncoder:
    """The model with the lengths and precision of the configuration, and with the prompts of ``config.task`` where it
    was trained with any; base and tuned are always opened alike. Raises ConfigError for a model of another kind, whose
    layers would be taken for an untrained dense model's."""
    kind = kind_of(model, config.trust_remote_code)
    if kind is not None and kind in _USES_OF_OTHERS:
        raise ConfigError(f"{model} is {DESCRIBED[kind]}, and dense vectors are needed here; {_USES_OF_OTHERS[kind]}")
    encoder = load_encoder(
        model,
        device=config.device,
        bf16=config.finetune.bf16,
        max_length=config.finetune.max_length,
        query_max_length=config.finetune.query_max_length,
        trust_remote_code=config.trust_remote_code,
    )
    if config.finetune.max_length is None and (encoder.max_length or 0) > LONGEST_BY_DEFAULT:
        encoder.max_length = LONGEST_BY_DEFAULT
        encoder.query_max_length = config.finetune.query_max_length or LONGEST_BY_DEFAULT
    return encoder.for_task(config.task)


def open_search_encoder(config: Config, model: str, backend: str | None = None) -> DenseEncoder | CpuEncoder:
    """What encodes for a search: a model as `open_encoder` opens it, a CPU build where ``model`` is the folder of one,
    or the build for ``backend`` that lies in the folder ``model``. Raises ConfigError where that is not there."""
    folder = Path(model).expanduser() if backend is None else find_build(model, backend)
    if not is_build(folder):
        return open_encoder(config, model)
    lengths = config.finetune.max_length, config.finetune.query_max_length
    return open_build(folder, max_length=lengths[0], query_max_length=lengths[1]).for_task(config.task)


def mining_of(config: Config) -> NegativesConfig:
    """At least as many negatives as an example takes at a time."""
    most = max(config.negatives.n_negatives, config.finetune.n_negatives)
    return config.negatives.model_copy(update={"n_negatives": most})


def open_reranker(config: Config) -> KeptReranker | None:
    """The cross-encoder whose veto mining asks for, if any; what it scores is kept in the workspace."""
    if config.negatives.reranker is None:
        return None
    reranker = CrossEncoderReranker(config.negatives.reranker, config.device)
    return KeptReranker(reranker, config.workspace_folder / RERANKER_SCORES)


def guide_of(config: Config, embeddings: Path) -> CachedEncoder | None:
    """The model that tells false negatives of a batch, if any: with its own prompts and length."""
    if config.finetune.guide is None:
        return None
    return CachedEncoder(open_with_own_settings(config, config.finetune.guide), embeddings)


def open_with_own_settings(config: Config, model: str) -> DenseEncoder:
    """A model beside the one that is tuned: with its own prompts and length, not those asked for that one."""
    own_length = config.finetune.model_copy(update={"max_length": None, "query_max_length": None})
    return open_encoder(config.model_copy(update={"finetune": own_length, "task": ""}), model)


def miner_of(config: Config, judged: Judged, passages: Sequence[Passage]) -> Miner | None:
    """Mines again for whatever weights it is given, where training is to refresh its negatives."""
    if not config.finetune.refresh_steps:
        return None
    return partial(_mine_again, Corpus(passages), judged, mining_of(config), config.seed, open_reranker(config))


def _mine_again(
    corpus: Corpus,
    judged: Judged,
    config: NegativesConfig,
    seed: int,
    reranker: KeptReranker | None,
    encoder: Encoder,
) -> Sequence[HardNegatives]:
    return mine_from(corpus, judged, encoder, config, seed, reranker).negatives


def text_length(encoder: DenseEncoder, side: Side) -> int | None:
    """Tokens of a text itself that the model reads: the side's length without its prompt and special tokens."""
    limit = encoder.query_max_length if side == "query" else encoder.max_length
    return None if limit is None else limit - len(encoder.tokenize([""], side)[0])


def capped(collection: Collection, limit: int | None, seed: int) -> tuple[Collection, list[str]]:
    """A seeded sample of the train queries, chosen by hash so that growth does not redraw it."""
    train = collection.splits.get("train")
    if limit is None or train is None or len(train.queries) <= limit:
        return collection, []
    drawn = sorted(train.queries, key=lambda q: digest(seed, q.query_id))[:limit]
    kept = {query.query_id for query in drawn}
    sample = Judged(
        tuple(query for query in train.queries if query.query_id in kept),
        {query_id: grades for query_id, grades in train.qrels.items() if query_id in kept},
    )
    note = f"train queries capped at {limit} of {len(train.queries)} (max_train_queries), drawn by hash of their ids"
    return replace(collection, splits={**collection.splits, "train": sample}), [note]
