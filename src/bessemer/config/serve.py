"""Of the HTTP service."""

from __future__ import annotations

from pydantic import Field, field_validator

from bessemer.config.section import Section, with_home


class ServeConfig(Section):
    """The HTTP service (docs/serving.md)."""

    host: str = Field("127.0.0.1", description="address to listen on; others than loopback need api_key_file")
    port: int = Field(8080, ge=0, le=65_535, description="0: a free one, which the log names")
    api_key_file: str | None = Field(None, description="file with one key per line; unset: no keys, loopback only")
    feedback: str | None = Field(None, description="JSONL to which /feedback appends what helped; unset: none is kept")
    reranker: str | None = Field(
        None, description="cross-encoder for /rerank (unset: the model's own similarity), and /search with `rerank`"
    )
    max_body_bytes: int = Field(8 << 20, ge=1_024, description="of one request; more is 413")
    max_items: int = Field(2_048, ge=1, description="texts of one request; more is 422")
    max_request_tokens: int = Field(200_000, ge=1, description="that the model reads for one request; more is 422")
    batch_tokens: int | None = Field(None, ge=1, description="encoded together; unset: 4096 on a CPU, 65536 on a GPU")
    queue_requests: int = Field(256, ge=1, description="waiting for the model; more is 429")
    queue_tokens: int = Field(400_000, ge=1, description="waiting for the model; more is 429")
    read_seconds: float = Field(15.0, gt=0, description="that a client may take to send a request; more is 408")
    request_seconds: float = Field(60.0, gt=0, description="that an answer may take; more is 504")

    _paths = field_validator("reranker")(with_home)
