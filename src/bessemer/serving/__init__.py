"""The HTTP service: models and indexes behind OpenAI-like endpoints."""
