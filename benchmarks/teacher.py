"""A language model as teacher: one pair at a time against `log_likelihoods`, equal scores, side by side in one run.

    python benchmarks/teacher.py [--rounds 5] [--layers 12] [--json teacher.json]

The model is a Llama of 12 layers and width 512 with random weights (speed does not ask what they say), the tokenizer
minilm's, the texts docstrings. "plain" is what a script does: tokenise, run, gather log P of the answer's tokens, once
per pair; "plain, answer's logits" asks the model for no other logits. Two settings: 8 questions of one passage, whose
prefix is run once, and 8 passages of one question, which are batched by length. After a warm-up of each, rounds
alternate; a ratio is that of the median times. Run it on a machine with nothing else to do. Promise on a CPU for
questions that share a passage: ratio >= 4 against the faster of the plain ones.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bessemer.encoders.load import load_encoder
from bessemer.llm.likelihood import Completion
from bessemer.llm.local import CausalLM
from bessemer.llm.templates import template_of
from encode import machine, seconds_of

QUESTIONS = (
    ("What does the function return?", "an array of the same shape as its input"),
    ("Which argument sets the axis?", "the axis argument; by default all elements are used"),
    ("Is the input changed in place?", "no, a new array is returned unless out is given"),
    ("What happens to masked values?", "they are left out of the computation"),
    ("Which type has the result?", "the type of the input, or float64 for integers"),
    ("When was the argument added?", "in a later version of the library"),
    ("What is raised for a wrong shape?", "a ValueError that names the two shapes"),
    ("Which function is related to it?", "the one of the same name that ignores missing values"),
)
FUNCTIONS = (np.einsum, np.linspace, np.histogram, np.percentile, np.gradient, np.interp, np.pad, np.unique)
TOLERANCE = 1e-4


class Tokenizer:
    """minilm's, as `CausalLM` takes one."""

    model_max_length = 2_048

    def __init__(self) -> None:
        self.backend_tokenizer = load_encoder("minilm", device="cpu").model.tokenizer.backend_tokenizer
        self.backend_tokenizer.no_truncation()
        self.backend_tokenizer.no_padding()


def model_of(n_layers: int, vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "intermediate_size": 1_376, "num_hidden_layers": n_layers, "num_attention_heads": 8}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, max_position_embeddings=2_048, **sizes)).eval()


@torch.inference_mode()
def plain(model: Any, tokenizer: Any, completions: Sequence[Completion], *, answer_only: bool) -> list[float]:
    """One text at a time; the answer's tokens are those that end behind its first character."""
    means = []
    for completion in completions:
        encoding = tokenizer.encode(completion.text)
        ids = encoding.ids[: encoding.special_tokens_mask.index(1, 1)]  # without the token that ends a text
        n_answer = sum(end > completion.answer_start for _, end in encoding.offsets[: len(ids)])
        keep = {"logits_to_keep": n_answer + 1} if answer_only else {}
        logits = model(torch.tensor([ids]), use_cache=False, **keep).logits[0, -n_answer - 1 : -1]
        found = logits.log_softmax(1).gather(1, torch.tensor(ids[-n_answer:])[:, None])
        means.append(float(found.mean()))
    return means


def ours(llm: CausalLM, completions: Sequence[Completion]) -> list[float]:
    found = dict(llm.log_likelihoods(completions))
    return [found[place].mean for place in range(len(completions))]


def settings(n_words: int) -> dict[str, list[Completion]]:
    """Passages of about ``n_words`` words; those of one question differ in length by up to a half."""
    docs = [" ".join((inspect.getdoc(function) or "").split()) for function in FUNCTIONS]
    cut = [" ".join(doc.split()[: n_words - n_words * i // (2 * len(docs))]) for i, doc in enumerate(docs)]
    fill = template_of("qa").fill
    return {
        "8 questions of one passage": [fill(cut[0], query, answer) for query, answer in QUESTIONS],
        "8 passages of one question": [fill(passage, *QUESTIONS[0]) for passage in cut],
    }


def measure(name: str, completions: list[Completion], model: Any, llm: CausalLM, rounds: int) -> dict[str, Any]:
    tokenizer = Tokenizer().backend_tokenizer
    sides: dict[str, Callable[[], list[float]]] = {
        "plain": lambda: plain(model, tokenizer, completions, answer_only=False),
        "plain, answer's logits": lambda: plain(model, tokenizer, completions, answer_only=True),
        "bessemer": lambda: ours(llm, completions),
    }
    scores = {side: run() for side, run in sides.items()}  # warm-up, and what equality is checked on
    difference = max(float(np.abs(np.subtract(scores["plain"], values)).max()) for values in scores.values())
    assert difference <= TOLERANCE, f"{name}: scores differ by {difference}"
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            times[side].append(seconds_of(run))
    median = {side: statistics.median(values) for side, values in times.items()}
    return {
        "tokens_per_text": statistics.fmean(len(tokenizer.encode(text.text).ids) for text in completions),
        "pairs_per_second": {side: len(completions) / value for side, value in median.items()},
        "ratio": {side: median[side] / median["bessemer"] for side in sides if side != "bessemer"},
        "largest_difference": difference,
        "seconds": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--words", type=int, default=200, help="of a passage")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    facts = machine()
    tokenizer = Tokenizer()
    model = model_of(arguments.layers, tokenizer.backend_tokenizer.get_vocab_size())
    llm = CausalLM(model, tokenizer, "llama")
    measured = {
        name: measure(name, completions, model, llm, arguments.rounds)
        for name, completions in settings(arguments.words).items()
    }
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    report = {"parameters": n_parameters, "words": arguments.words, "settings": measured, "machine": facts}
    print(json.dumps(report, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
