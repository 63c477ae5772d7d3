"""Likelihoods of answers against a loop over tokens, one text at a time, without a cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, BertModel

from bessemer.errors import ArtifactError, ConfigError
from bessemer.llm.likelihood import Completion, Likelihood
from bessemer.llm.local import CausalLM, load_causal_lm
from bessemer.llm.templates import template_of
from tiny_llm import save_causal_lm, word_pieces

FURNACE = "The blast furnace makes iron from ore. " * 3
CONVERTER = "The converter makes steel from iron; 转炉炼钢 is what it is called."
QUESTIONS = ["What does the converter make?", "Who blew air through the iron?", "What is coke for, in a furnace?"]
ANSWERS = ["steel", "Bessemer did, in a converter", "钢。"]


def qa(passage: str, query: str, answer: str) -> Completion:
    return template_of("qa").fill(passage, query, answer)


MIXED = [
    *(qa(FURNACE, query, answer) for query in QUESTIONS for answer in ANSWERS[:2]),
    qa(CONVERTER, QUESTIONS[0], ANSWERS[2]),
    qa("Ore.", QUESTIONS[1], ANSWERS[0]),
    template_of("icl").fill("Question: Who? Answer: Bessemer", "Question: Who blew?", "He did."),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal_lm(tmp_path_factory.mktemp("llm") / "llama")


@pytest.fixture(scope="module")
def llm(folder: Path) -> CausalLM:
    return load_causal_lm(str(folder))


def scored(llm: CausalLM, completions: Sequence[Completion]) -> list[Likelihood]:
    found = dict(llm.log_likelihoods(completions))
    assert sorted(found) == list(range(len(completions)))
    return [found[place] for place in range(len(completions))]


@lru_cache(maxsize=2)
def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@torch.inference_mode()
def token_by_token(folder: Path, completion: Completion, **tokenizer_options: bool) -> tuple[float, int]:
    """Mean log P and number of the answer's tokens. The tokenizer gives a word the space before it, and a Chinese
    character its own three bytes."""
    tokenizer = word_pieces(**tokenizer_options)
    model = plain(folder)
    at = completion.answer_start
    before = 1 if completion.text[at - 1] == " " and completion.answer.isascii() else 0
    prompt = tokenizer.encode(completion.text[: at - before], add_special_tokens=False).ids
    answer = tokenizer.encode(completion.text[at - before :], add_special_tokens=False).ids
    ids = [tokenizer.token_to_id("<s>")] * tokenizer_options.get("bos", True) + prompt
    total = 0.0
    for token in answer:
        logits = model(torch.tensor([ids])).logits[0, -1]
        total += float(logits.double().log_softmax(0)[token])
        ids.append(token)
    return total / len(answer), len(answer)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom", "gemma2", "mistral", "mamba"])
def test_batches_and_shared_prefixes_are_exact(kind: str, tmp_path: Path) -> None:
    folder = save_causal_lm(tmp_path / kind, kind)
    llm = load_causal_lm(str(folder))
    assert llm._can_share is (kind != "mamba")
    for completion, found in zip(MIXED, scored(llm, MIXED), strict=True):
        mean, n_tokens = token_by_token(folder, completion)
        assert found == Likelihood(pytest.approx(mean, abs=1e-4), n_tokens)


def test_the_passage_runs_once_for_all_its_questions(llm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    embeddings = llm._model.get_input_embeddings()
    handle = embeddings.register_forward_pre_hook(lambda _, inputs: widths.append(tuple(inputs[0].shape)))
    try:
        scored(llm, [qa(FURNACE, query, answer) for query in QUESTIONS for answer in ANSWERS])
    finally:
        handle.remove()
    (one, prefix), (n, rest) = widths
    assert (one, n) == (1, 9)
    assert prefix > 30 > rest


def test_the_head_reads_the_answers_alone(llm: CausalLM) -> None:
    read = []
    handle = llm._model.get_output_embeddings().register_forward_hook(lambda _, __, out: read.append(out.shape[:2]))
    try:
        found = scored(llm, MIXED)
    finally:
        handle.remove()
    assert sum(n for _, n in read) == sum(likelihood.n_tokens for likelihood in found)


@pytest.mark.parametrize("options", [{"bos": False}, {"bos": True, "eos": True}], ids=["no-bos", "eos"])
def test_special_tokens_stand_as_the_tokenizer_has_them_but_never_after_the_answer(
    options: dict[str, bool], tmp_path: Path
) -> None:
    folder = save_causal_lm(tmp_path / "llm", **options)
    for completion, found in zip(MIXED, scored(load_causal_lm(str(folder)), MIXED), strict=True):
        assert found[:2] == (pytest.approx(token_by_token(folder, completion, **options)[0], abs=1e-4), found.n_tokens)


def test_an_answer_begins_with_the_token_that_holds_its_first_character(llm: CausalLM) -> None:
    """Running text that is cut within the word "converter", and within nothing: one token holds both sides."""
    seam = template_of("lrlm").fill("Iron.", "The conver", "ter makes steel")
    whole = template_of("lrlm").fill("Iron.", "The", " converter makes steel")
    assert seam.text == whole.text
    assert scored(llm, [seam])[0] == scored(llm, [whole])[0]


def test_faults_are_told_and_hold_up_nothing(llm: CausalLM) -> None:
    found = scored(llm, [qa("p", "q", " \n"), qa("p", "q", "steel"), Completion("", "", "", "x")])
    assert [likelihood.fault for likelihood in found] == ["the answer is empty", "", ""]  # <s> stands before "x"
    assert math.isnan(found[0].mean)
    assert found[1].mean < 0


def test_without_a_token_before_it_an_answer_has_no_likelihood(tmp_path: Path) -> None:
    llm = load_causal_lm(str(save_causal_lm(tmp_path / "llm", bos=False)))
    assert scored(llm, [Completion("", "", "", "iron")])[0].fault == "no token precedes the answer"


def test_the_passage_is_cut_and_never_question_or_answer(tmp_path: Path) -> None:
    folder = save_causal_lm(tmp_path / "llm", positions=64)
    llm = load_causal_lm(str(folder))
    assert llm.max_length == 64
    long = qa("转炉 " + "iron ore " * 200, QUESTIONS[0], ANSWERS[1])
    cut, fitting, hopeless = scored(llm, [long, qa("Ore.", "What?", "steel"), qa("p", "炉" * 30, "x")])
    assert (cut.is_cut, fitting.is_cut) == (True, False)
    assert hopeless.fault == "question and answer alone have more than the 64 tokens that the model reads"
    shown = next(
        qa(long.passage[:n], QUESTIONS[0], ANSWERS[1])
        for n in range(len(long.passage), 0, -1)
        if len(word_pieces().encode(qa(long.passage[:n], QUESTIONS[0], ANSWERS[1]).text).ids) <= 64
    )
    assert cut.mean == pytest.approx(token_by_token(folder, shown)[0], abs=1e-4)


def test_identities_tell_weights_lengths_and_tokenizers_apart_and_not_paths(folder: Path, tmp_path: Path) -> None:
    same = load_causal_lm(str(save_causal_lm(tmp_path / "same"))).identity
    assert same == load_causal_lm(str(folder)).identity
    others = [
        load_causal_lm(str(save_causal_lm(tmp_path / "weights", seed=1))).identity,
        load_causal_lm(str(save_causal_lm(tmp_path / "length", positions=64))).identity,
        load_causal_lm(str(save_causal_lm(tmp_path / "tokenizer", bos=False))).identity,
        load_causal_lm(str(folder), bf16=True).identity,
    ]
    assert len({same, *others}) == 5


def test_what_is_no_causal_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no language model to be had"):
        load_causal_lm(str(tmp_path / "nothing"))
    sizes = {"vocab_size": 420, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(**sizes, intermediate_size=16, initializer_range=0.3)
    for name, model, words in (
        ("encoder", BertModel(config), "is no language model"),
        ("masked", BertForMaskedLM(config), "reads what comes after, too"),
    ):
        folder = save_causal_lm(tmp_path / name)
        for file in folder.glob("*.safetensors"):
            file.unlink()
        model.save_pretrained(folder)
        with pytest.raises(ConfigError, match=words):
            load_causal_lm(str(folder))


def test_damaged_weights_are_told(tmp_path: Path) -> None:
    folder = save_causal_lm(tmp_path / "llm")
    llm = load_causal_lm(str(folder))
    with torch.no_grad():
        llm._model.get_output_embeddings().weight[5] = math.nan
    with pytest.raises(ArtifactError, match="likelihoods are not finite"):
        scored(llm, MIXED[:1])
    llm._model.save_pretrained(folder)
    with pytest.raises(ArtifactError, match="likelihoods are not finite"):
        load_causal_lm(str(folder))
