"""Whether a passage helped: /feedback."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from bessemer.serving.logs import Facts
from bessemer.serving.model import off_loop
from bessemer.serving.refusal import Refusal
from bessemer.serving.service import Service
from bessemer.serving.shapes import FeedbackRequest

logger = logging.getLogger("bessemer.serve")


async def feedback(service: Service, body: FeedbackRequest, facts: Facts) -> dict[str, Any]:
    """Keep one judgement. Raises Refusal where none are kept, and for a passage that is not in the index."""
    if service.feedback is None:
        raise Refusal(400, "no feedback is kept here; start with `bessemer serve --feedback FILE`", "no_feedback")
    name, index, _ = await service.index(body.index)
    if not await off_loop(service.executor, index.holds, body.passage_id):
        raise Refusal(422, "passage_id: no such passage in this index", "unknown_passage")
    facts.items = 1
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {"query": body.query, "passage_id": body.passage_id, "helpful": body.helpful, "time": now, "index": name}
    try:
        await off_loop(service.executor, service.feedback.append, told)
    except OSError as error:
        logger.error(json.dumps({"id": facts.request_id, "error": f"feedback is not written: {error.strerror}"}))
        raise Refusal(503, "the feedback could not be written; the service's log says why", "not_written") from None
    return {"status": "ok"}
