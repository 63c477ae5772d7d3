"""Where indexes are: addresses in a server, ``milvus://host:port/NAME``, ``qdrant+tls://host:port/NAME``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from bessemer.errors import ConfigError

KEY_VARIABLE = "BESSEMER_STORE_KEY"
MILVUS_FILE = "milvus.db"  # of Milvus Lite, in a folder
_NAME = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9])*")


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int
    name: str
    tls: bool

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def parse_address(location: str, scheme: str, port: int) -> Address:
    """``port``: where the location names none. Raises ConfigError for what is no address of an index, and for one
    with a key in it: addresses are printed, and seen in lists of processes."""
    like = f"write {scheme}://HOST:PORT/NAME, or {scheme}+tls://..."
    try:
        parts = urlsplit(location)
        found = Address(parts.hostname or "", parts.port or port, parts.path.strip("/"), parts.scheme.endswith("+tls"))
    except ValueError as error:
        raise ConfigError(f"--out/--index: {error}; {like}") from None
    if "@" in parts.netloc or parts.query:
        raise ConfigError(f"an address holds no key: give it in the environment variable {KEY_VARIABLE}; {like}")
    if parts.scheme not in (scheme, f"{scheme}+tls") or not found.host:
        raise ConfigError(f"{location}: no address; {like}")
    if not _NAME.fullmatch(found.name) or len(found.name) > 100:
        raise ConfigError(
            f"{location}: NAME is a letter, then letters, digits and single underscores, 100 at most; {like}"
        )
    return found
