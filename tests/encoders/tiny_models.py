"""A vocabulary of words w0..w199 and a tokenizer for it."""

from __future__ import annotations

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "query", "passage", ":", *(f"w{i}" for i in range(200))]


def word_tokenizer(template: str | None = "[CLS] $A [SEP]") -> Tokenizer:
    ids = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    if template:
        special = [(word, ids[word]) for word in ("[CLS]", "[SEP]") if word in template]
        tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


def words(*numbers: int) -> str:
    return " ".join(f"w{i}" for i in numbers)
