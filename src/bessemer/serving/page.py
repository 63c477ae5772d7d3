"""The page at /: what is served, for people. No scripts, nothing from elsewhere."""

from __future__ import annotations

from html import escape

from bessemer.serving.service import Served

PATHS = "/v1/embeddings /v1/models /rerank /embed_sparse /search /ask /health /info /metrics /openapi.json"


def page(served: Served) -> str:
    indexes = "".join(f"<li>{escape(name)}</li>" for name in served.indexes) or "<li>none</li>"
    paths = "".join(f"<li><code>{path}</code></li>" for path in PATHS.split())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Bessemer</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em }}</style>
<h1>Bessemer</h1>
<p>Model: <code>{escape(served.name)}</code></p>
<h2>Indexes</h2><ul>{indexes}</ul>
<h2>Endpoints</h2><ul>{paths}</ul>
</html>
"""
