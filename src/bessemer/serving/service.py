"""What the endpoints stand on: the model, the indexes, and the threads that they share."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bessemer.config import ServeConfig
from bessemer.encoders.encoder import Output
from bessemer.errors import BessemerError
from bessemer.printing import printable
from bessemer.search.encoded_texts import unified_in
from bessemer.search.index import Index
from bessemer.search.stores.store import Filter
from bessemer.serving.batching import Batcher, Lane
from bessemer.serving.feedback_log import FeedbackLog
from bessemer.serving.metrics import Metrics
from bessemer.serving.model import Limits, Model, Reranker, ServedEncoder, off_loop, pair_lane
from bessemer.serving.refreshing import Refresher
from bessemer.serving.refusal import Refusal, busy

logger = logging.getLogger("bessemer.serve")

Ask = Callable[[Sequence[str], str, int, Filter], Mapping[str, Any]]
"""(names of indexes, question, top_k, where) -> what `bessemer ask --json` gives."""

CPU_TURN_TOKENS, GPU_TURN_TOKENS = 4_096, 65_536
ASKS_AT_ONCE, ASK_AGAIN_SECONDS = 16, 5
WARM_UP = "How is the first request to be as fast as the second?"


@dataclass(frozen=True)
class Served:
    """What is served, opened by the recipe. ``outputs``: of the encoder; ``widths``: at which its dense vectors may be
    cut. ``indexes``: an index that was built anew takes the place of what it was. ``ask``: None without a language
    model. ``versions``: of packages, to be told."""

    name: str
    encoder: ServedEncoder
    outputs: tuple[Output, ...]
    widths: tuple[int, ...] = ()
    indexes: dict[str, Index] = field(default_factory=dict)
    reranker: Reranker | None = None
    ask: Ask | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


class Service:
    """The served things with their batcher, metrics and limits."""

    def __init__(self, served: Served, config: ServeConfig) -> None:
        """Raises ConfigError where feedback cannot be written."""
        self.served, self.config = served, config
        self.metrics = Metrics()
        self.feedback = FeedbackLog(config.feedback) if config.feedback else None
        self.fingerprint = served.encoder.fingerprint_of("passage")  # read once: it hashes all weights
        self.limits = Limits(config.max_items, config.max_request_tokens)
        usual = CPU_TURN_TOKENS if served.encoder.device == "cpu" else GPU_TURN_TOKENS
        turn_tokens = config.batch_tokens or usual
        self.batcher = Batcher(turn_tokens, config.queue_requests, config.queue_tokens, self.metrics.turn)
        self.metrics.watch_queue(self.batcher.waiting)
        self.executor = ThreadPoolExecutor(thread_name_prefix="bessemer-search")
        self.asking = ThreadPoolExecutor(ASKS_AT_ONCE, thread_name_prefix="bessemer-ask")
        self.model = Model(served.name, served.encoder, served.outputs, self.batcher, self.executor)
        self._model_of: dict[str, Model] = {}
        for name, index in served.indexes.items():
            self._model_of[name] = self._shared_model(index)
        self.pairs: Lane | None = pair_lane(served.reranker) if served.reranker else None
        self._refresher = Refresher(self._refresh)
        self._free_to_ask = threading.Semaphore(ASKS_AT_ONCE)

    @property
    def reranker_name(self) -> str | None:
        """Without its folder: clients need no paths."""
        return Path(self.served.reranker.name).name if self.served.reranker else None

    def warm_up(self) -> None:
        """Pay before the first request for what is settled at the first encoding and the first search. Raises what
        they raise."""
        encoder = self.served.encoder
        for encode in (encoder.encode_queries, encoder.encode_passages):
            encode([WARM_UP])
        for index in self.served.indexes.values():
            index.search(WARM_UP, 1)

    def close(self) -> None:
        self.batcher.close()
        self.executor.shutdown(cancel_futures=True)
        self.asking.shutdown(wait=False, cancel_futures=True)

    async def index(self, name: str | None) -> tuple[str, Index, Model]:
        """An index as it is on disk now, and the model of its queries. Raises Refusal where there is none."""
        indexes = self.served.indexes
        if not indexes:
            raise Refusal(400, "no index is served here; start with `bessemer serve --index I`", "no_index")
        name = next(iter(indexes)) if name is None else name
        if name not in indexes:
            raise Refusal(422, "no such index; /info names those that there are", "unknown_index")
        await self._refresher.look(name)
        return name, indexes[name], self._model_of[name]

    async def ask(self, names: Sequence[str], question: str, top_k: int, where: Filter) -> Mapping[str, Any]:
        """The answer of the language model. A question that nobody waits for any more counts until it has ended. Raises
        Refusal where ASKS_AT_ONCE are under way."""
        assert self.served.ask
        if not self._free_to_ask.acquire(blocking=False):
            raise busy(f"{ASKS_AT_ONCE} questions are with the language model; try again later", ASK_AGAIN_SECONDS)
        future = self.asking.submit(self.served.ask, names, question, top_k, where)
        future.add_done_callback(lambda _: self._free_to_ask.release())
        return await asyncio.wrap_future(future)

    async def _refresh(self, name: str) -> None:
        index = self.served.indexes[name]
        try:
            fresh = await off_loop(self.executor, self._reopened, index)
        except Exception as error:  # what was opened goes on serving
            told = printable(str(error)) if isinstance(error, BessemerError) else type(error).__name__
            logger.error(json.dumps({"index": name, "error": f"cannot be refreshed: {told}"}))
            return
        if fresh is not index:
            self.served.indexes[name] = fresh
            self._model_of[name] = self._shared_model(fresh)
            self._tell_of_another_model(name, index, fresh)

    def _reopened(self, index: Index) -> Index:
        fresh = index.refreshed()
        if fresh is not index:
            fresh.use_encoder_of(list(self.served.indexes.values()))
            fresh.search(WARM_UP, 1)  # loads its model, where that is another
        return fresh

    def _shared_model(self, index: Index) -> Model:
        """One for all indexes that are searched by the same encoder."""
        encoder: Any = index.encoder
        for model in (self.model, *self._model_of.values()):
            if model.encoder is encoder:
                return model
        outputs: tuple[Output, ...] = index.outputs if unified_in(encoder) else ("dense",)
        return Model(str(index.manifest["model"]), encoder, outputs, self.batcher, self.executor)

    def _tell_of_another_model(self, name: str, index: Index, fresh: Index) -> None:
        if index.encoder is self.model.encoder and fresh.encoder is not self.model.encoder:
            told = "searched by another model now; /v1/embeddings, /embed_sparse and /rerank keep the one of the start"
            logger.warning(json.dumps({"index": name, "warning": f"{told} until the service is started again"}))
