"""API keys: kept as hashes, compared in constant time, asked for before anything of a request is read."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from bessemer.errors import ConfigError
from bessemer.serving.refusal import Refusal

OPEN_PATHS = frozenset({"/", "/health"})
_URL_NAMES = frozenset({"apikey", "key", "token", "accesstoken", "authorization", "auth", "bearer", "secret"})


class Keys:
    """sha256 of every key."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = [_hash(key.encode()) for key in keys]

    def knows(self, key: bytes) -> bool:
        """As long for a wrong key as for a right one."""
        given, found = _hash(key), False
        for known in self._hashes:
            found |= hmac.compare_digest(known, given)
        return found


def read_keys(file: str) -> Keys:
    """One key per line; blank lines and those that begin with # do not count. Raises ConfigError where there is none
    and for a key that no header can carry."""
    try:
        lines = [line.strip() for line in Path(file).expanduser().read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        raise ConfigError(f"--api-key-file {file}: cannot be read ({reason})") from None
    keys = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        if not (line.isascii() and line.isprintable()) or " " in line:
            raise ConfigError(f"--api-key-file {file}:{number}: a key is printable ASCII without blanks")
        keys.append(line)
    if not keys:
        raise ConfigError(f"--api-key-file {file}: holds no key; write one per line")
    return Keys(keys)


def require_safe_host(host: str, keys: Keys | None) -> None:
    """Raises ConfigError where a service without keys would be reached from elsewhere."""
    if keys is None and not is_loopback(host):
        raise ConfigError(f"--host {host}: others could reach the service; give --api-key-file, or --host 127.0.0.1")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Keyed:
    """ASGI: lets through who brings a key, in the header and nowhere else. Reads nothing of anybody else's body."""

    def __init__(self, app: ASGIApp, keys: Keys | None) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = None if scope["type"] != "http" else self._fault(scope)
        if fault:
            headers = {"WWW-Authenticate": "Bearer", **({"Connection": "close"} if _brings_body(scope) else {})}
            await Refusal(401, fault, "invalid_api_key", headers).response()(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _fault(self, scope: Scope) -> str:
        if self._keys is None or scope["path"] in OPEN_PATHS:
            return ""
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if any(name.lower().replace("_", "").replace("-", "") in _URL_NAMES for name, _ in asked):
            return "keys go into the header `Authorization: Bearer KEY`, never into a URL, which is logged on its way"
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return "an API key is needed: send the header `Authorization: Bearer KEY`"
        scheme, _, key = given[0].partition(b" ")
        return "" if scheme.lower() == b"bearer" and self._keys.knows(key.strip()) else "this API key is not known"


def _brings_body(scope: Scope) -> bool:
    """Whose end nobody will wait for."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])


def _hash(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
