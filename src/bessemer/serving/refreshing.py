"""Looking, now and then, whether what is served was built anew, without holding up those who search it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

REFRESH_SECONDS = 1.0
"""How often an index may be asked whether it has changed."""
PATIENCE_SECONDS = 1.0
"""How long requests wait for that: enough to open a small index. A model takes longer to load, and they go on with what
is open."""


class Refresher:
    """One look at a time at each name. It outlives the request that began it, whose client may have gone."""

    def __init__(self, look: Callable[[str], Awaitable[None]]) -> None:
        """``look`` raises nothing."""
        self._look = look
        self._begun: dict[str, float] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}

    async def look(self, name: str) -> None:
        """Where the last look was long enough ago; PATIENCE_SECONDS at most are waited for it."""
        now = time.monotonic()
        if name not in self._looks and now - self._begun.get(name, float("-inf")) >= REFRESH_SECONDS:
            self._begun[name] = now
            self._looks[name] = asyncio.create_task(self._looked(name))
        patience = self._begun[name] + PATIENCE_SECONDS - now
        if name in self._looks and patience > 0:
            await asyncio.wait({self._looks[name]}, timeout=patience)

    async def _looked(self, name: str) -> None:
        try:
            await self._look(name)
        finally:
            del self._looks[name]
