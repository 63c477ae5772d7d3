"""Answers out of passages, with the passages that they rest on."""
