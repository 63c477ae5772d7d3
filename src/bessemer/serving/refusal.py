"""What a client is told when it cannot be served: one shape for every fault, the one of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """``message`` goes to the client: it holds no text of a request, no path, no key."""

    def __init__(self, status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "code": self.code}
        return JSONResponse({"error": error}, self.status, self.headers)


def busy(message: str, seconds: int) -> Refusal:
    return Refusal(429, message, "busy", {"Retry-After": str(seconds)})


def unforeseen() -> Refusal:
    return Refusal(500, "an unforeseen error; the log has its place", "internal")
