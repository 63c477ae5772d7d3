"""Bessemer: from a company's documents to a retriever that finds them, and proves it."""
