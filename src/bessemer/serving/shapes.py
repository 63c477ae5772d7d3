"""Bodies of requests and answers. Requests are read strictly: an unknown key is a fault, a number is no text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from bessemer.printing import printable
from bessemer.serving.refusal import Refusal

MAX_TOP_K = 1_000
MAX_JUDGED, MAX_ID = 2_000, 1_000
"""Characters of a query that feedback is kept of, and of an id."""
TOKEN_IDS = (
    "token ids cannot be read, as they are of another model's tokenizer; send texts "
    "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
)


def _no_token_ids(value: Any) -> Any:
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, list):
        first = first[0] if first else None
    if isinstance(first, int):
        raise Refusal(400, TOKEN_IDS, "token_ids")
    return value


def _printed(value: str) -> str:
    if printable(value) != value or "\n" in value or "\t" in value:
        raise ValueError("holds control characters")
    return value


Texts = Annotated[
    str | Annotated[list[str], Field(min_length=1)], BeforeValidator(_no_token_ids), Field(description="one or several")
]
InputType = Literal["query", "passage"]
Searched = Annotated[str, Field(pattern=r"\S", description="what to look for")]
Printed = Annotated[str, AfterValidator(_printed), Field(pattern=r"\S")]
ModelName = Annotated[str, Field(description="any name is taken: there is one model")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class EmbeddingsRequest(Body):
    input: Texts
    model: ModelName = ""
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, description="of models trained to be cut (Matryoshka)")
    input_type: InputType = Field("passage", description="whose prompt stands before the texts")
    user: str | None = Field(None, description="not used")


class SparseRequest(Body):
    input: Texts
    model: ModelName = ""
    input_type: InputType = "passage"


class RerankRequest(Body):
    query: Searched
    passages: list[str] = Field(min_length=1, validation_alias=AliasChoices("passages", "documents"))
    top_n: int | None = Field(None, ge=1, description="how many come back; unset: all")
    model: ModelName = ""


class ConditionBody(Body):
    field: str = Field(min_length=1, description="of the passages' metadata, or doc_id")
    operator: Literal["=", "!=", ">=", "<=", ">", "<"] = "="
    values: list[str | int | float | bool] = Field(min_length=1, description="of several, any")


class SearchRequest(Body):
    query: Searched
    top_k: int = Field(10, ge=1, le=MAX_TOP_K)
    index: str | None = Field(None, description="one of those in /info; unset: the first")
    task: str | None = Field(None, description="must be the task that the index was built for")
    where: list[ConditionBody | str] = Field([], description="all must hold; as text: `year>=2024`")
    explain: bool = Field(False, description="tokens that matched, of unified models")
    rerank: bool = Field(False, description="the best 50 in the order of the cross-encoder of --reranker")
    history: list[str] = Field([], description="turns before it, the oldest first")


class FeedbackRequest(Body):
    query: Printed = Field(max_length=MAX_JUDGED)
    passage_id: Printed = Field(max_length=MAX_ID)
    helpful: bool
    index: str | None = Field(None, description="where it was found; unset: the first of /info")


class AskRequest(Body):
    question: Searched
    index: list[str] | None = Field(None, min_length=1, description="those in /info; unset: all")
    top_k: int = Field(6, ge=1, le=100, description="passages that the answer may rest on")
    where: list[ConditionBody | str] = Field([], description="of the passages, as in /search")


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Usage(Answer):
    prompt_tokens: int
    total_tokens: int


class Embedding(Answer):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="numbers, or base64 of little-endian float32")
    truncated: bool = Field(description="the text was longer than the model reads")


class EmbeddingsAnswer(Answer):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class SparseRow(Answer):
    index: int
    indices: list[int]
    values: list[float]
    truncated: bool


class SparseAnswer(Answer):
    data: list[SparseRow]
    model: str
    usage: Usage


class Ranked(Answer):
    index: int = Field(description="place among the passages given")
    relevance_score: float
    truncated: bool


class RerankAnswer(Answer):
    results: list[Ranked] = Field(description="best first")
    model: str
    usage: Usage


class Hit(BaseModel):
    """As `bessemer search --json` gives it."""

    passage_id: str
    doc_id: str
    score: float
    text: str
    lanes: dict[str, dict[str, float | str]]
    explain: dict[str, Any] | None = None


class SearchAnswer(Answer):
    hits: list[Hit]
    index: str
    truncated: bool = Field(description="the query was longer than the model reads")


class AskAnswer(BaseModel):
    """As `bessemer ask --json` gives it."""

    question: str
    found: bool
    answer: str
    truncated: bool
    reason: str
    citations: list[dict[str, Any]]


class Kept(Answer):
    status: Literal["ok"] = Field(description="it is on disk")


class ModelCard(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsAnswer(Answer):
    object: Literal["list"]
    data: list[ModelCard]


class Health(Answer):
    status: Literal["ok"]


class Info(BaseModel):
    model: dict[str, Any]
    indexes: list[dict[str, Any]]
    reranker: str | None
    ask: bool
    feedback: bool
    limits: dict[str, float]
    versions: dict[str, str]


class ErrorDetail(Answer):
    message: str
    type: str
    code: str


class ErrorAnswer(Answer):
    error: ErrorDetail
