"""Four passages of a handbook, and a question that one of them answers."""

from __future__ import annotations

TEXTS = {
    "coats": "Coats can be returned within thirty days.",
    "office": "The office in Leeds opens at nine.",
    "invoice": "An invoice is paid by bank transfer, with its number as the reference.",
    "leave": "Twenty-five days of leave are granted every year.",
}
QUESTION = "How do I return a coat?"
