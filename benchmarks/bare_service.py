"""What people write themselves: FastAPI and `SentenceTransformer.encode`, one request after another."""

from __future__ import annotations

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Request(BaseModel):
    input: list[str]


def main(model_folder: str, port: int) -> None:
    app, model = FastAPI(), SentenceTransformer(model_folder, device="cpu")

    @app.post("/v1/embeddings")
    def embeddings(body: Request) -> dict[str, object]:
        vectors = model.encode(body.input, show_progress_bar=False)
        return {"data": [{"index": i, "embedding": vector.tolist()} for i, vector in enumerate(vectors)]}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
