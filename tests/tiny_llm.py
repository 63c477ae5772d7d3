"""Small causal language models with random weights and a real byte-level tokenizer, saved like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

CORPUS = (
    "Knowledge: The blast furnace makes iron from ore, and the converter makes steel from iron.",
    "Question: What does the converter make? Answer: The converter makes steel.",
    "Question: Who blew air through the iron? Answer: Bessemer did, in a converter.",
    "Steel is iron with little carbon; the ore is smelted in the furnace with coke.",
)


def word_pieces(*, bos: bool = True, eos: bool = False) -> Tokenizer:
    """Byte-level BPE: whole words of CORPUS, single bytes of everything else (three for a Chinese character)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    template = ("<s> " if bos else "") + "$A" + (" </s>" if eos else "")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(word, tokenizer.token_to_id(word)) for word in special]
    )
    return tokenizer


def save_causal_lm(
    folder: Path, kind: str = "llama", *, seed: int = 0, positions: int = 512, **tokenizer_options: bool
) -> Path:
    """``kind``: llama, gpt2 (learned positions), bloom (a bias alone), gemma2 (capped logits), mistral (a window) or
    mamba (recurrent)."""
    tokenizer = word_pieces(**tokenizer_options)
    torch.manual_seed(seed)
    n = tokenizer.get_vocab_size()
    rotary: dict[str, Any] = {
        "vocab_size": n, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": positions, "initializer_range": 0.3,
    }  # fmt: skip
    if kind == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(**rotary, tie_word_embeddings=True))
    elif kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=n, n_positions=positions, **sizes))
    elif kind == "bloom":
        model = BloomForCausalLM(BloomConfig(vocab_size=n, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3))
    elif kind == "mamba":
        sizes = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 2, "initializer_range": 0.3}
        model = MambaForCausalLM(MambaConfig(vocab_size=n, **sizes))
    elif kind == "gemma2":
        model = Gemma2ForCausalLM(Gemma2Config(**rotary, final_logit_softcapping=2.0, sliding_window=8))
    else:
        model = MistralForCausalLM(MistralConfig(**rotary, sliding_window=8))
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return folder
