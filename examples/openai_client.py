"""Vectors from a running `bessemer serve`, by the OpenAI client: python openai_client.py URL [API_KEY]"""

import sys

from openai import OpenAI

url, *keys = sys.argv[1:]
client = OpenAI(base_url=f"{url.rstrip('/')}/v1", api_key=keys[0] if keys else "none")


def vectors(texts: list[str], side: str) -> list[list[float]]:
    """``side`` is query or passage: each has its prompt. The service has one model, whatever it is called here."""
    answer = client.embeddings.create(model="tuned", input=texts, extra_body={"input_type": side})
    return [item.embedding for item in answer.data]


passages = ["Coats can be returned within thirty days.", "The office opens at nine."]
[query] = vectors(["How do I return a coat?"], "query")
for text, passage in zip(passages, vectors(passages, "passage"), strict=True):
    print(f"{sum(a * b for a, b in zip(query, passage, strict=True)):.3f}  {text}")
