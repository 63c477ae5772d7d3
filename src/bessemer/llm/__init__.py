"""Language models: calls over HTTP, kept and counted; what they answer, read."""
