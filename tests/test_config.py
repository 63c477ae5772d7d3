from __future__ import annotations

import re
from pathlib import Path

import pytest

from bessemer.config import Config, EvaluationConfig, Section, load_config
from bessemer.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "bessemer.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text))
    return str(caught.value)


def test_no_file_no_flags_are_the_defaults() -> None:
    assert load_config() == Config()


def test_the_file_sets_and_flags_win(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 7\nmodel: e5\nfinetune:\n  learning_rate: 2e-5\n  temperature: 0.02\n")
    config = load_config(path, {"seed": 9, "finetune.temperature": 0.1, "negatives.n_negatives": 2, "model": None})
    assert (config.seed, config.model) == (9, "e5")  # a flag of None was not given
    assert (config.finetune.learning_rate, config.finetune.temperature) == (2e-5, 0.1)
    assert config.negatives.n_negatives == 2
    assert config.finetune.per_device_train_batch_size == Config().finetune.per_device_train_batch_size


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    keys = ("source", "data", "queries", "model", "out", "workspace")
    sections = (
        "evaluation: {general: ~/general}\nindex: {questions: [~/mined, b], fusion_data: ~/beir}\n"
        "tasks: [{data: ~/faq.jsonl}]\nteacher: {model: ~/t}\nnegatives: {reranker: ~/r}\nserve: {reranker: ~/r}\n"
    )
    config = load_config(write(tmp_path, sections + "".join(f"{key}: ~/{key} 1\n" for key in keys)), {"out": "~/o"})
    assert [getattr(config, key) for key in keys if key != "out"] == [f"/home/me/{k} 1" for k in keys if k != "out"]
    assert (config.out, config.evaluation.general, config.index.fusion_data) == (
        "/home/me/o", "/home/me/general", "/home/me/beir",
    )  # fmt: skip
    assert (config.index.questions, config.tasks[0].data) == (("/home/me/mined", "b"), "/home/me/faq.jsonl")
    assert (config.teacher.model, config.negatives.reranker, config.serve.reranker) == (
        "/home/me/t",
        *["/home/me/r"] * 2,
    )
    assert Config(out="~not/mine").out == "~not/mine"


@pytest.mark.parametrize("text", ["", "# nothing\n", "finetune:\n  # temperature: 0.1\nsplit:\n"])
def test_empty_files_and_sections_are_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, text)) == Config()
    assert load_config(write(tmp_path, text), {"finetune.temperature": 0.1}).finetune.temperature == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 1", "sed: unknown key; did you mean `seed`?"),
        ("finetune:\n  learning_rte: 1", "finetune.learning_rte: unknown key; did you mean `learning_rate`?"),
        ("split:\n  validation: 0.1", "split.validation: unknown key; known: dev, test"),
        ("7: 1", "7: "),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, message: str) -> None:
    assert f"{tmp_path / 'bessemer.yaml'}: {message}" in refusal(tmp_path, text)


def test_an_unknown_flag_is_told_as_one() -> None:
    with pytest.raises(ConfigError, match=r"flags: finetune\.temprature: unknown key; did you mean `temperature`\?"):
        load_config(None, {"finetune.temprature": 1})


def test_all_faults_at_once(tmp_path: Path) -> None:
    text = "seed: many\nfinetune:\n  temperature: -1\n  stepps: 1\nsplit:\n  dev: 0.7\n"
    lines = refusal(tmp_path, text).splitlines()
    assert len(lines) == 4
    for key in ("seed", "finetune.temperature", "finetune.stepps", "split.dev"):
        assert sum(f": {key}: " in line for line in lines) == 1
    assert any("given: 'many'" in line for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "seed: -1",
        "seed: 4294967296",  # numpy takes none beyond
        "finetune:\n  temperature: 0",
        "finetune:\n  temperature: .nan",
        "finetune:\n  learning_rate: .inf",
        "negatives:\n  relative_margin: .nan",
        "finetune:\n  max_steps: -2",
        "finetune:\n  lr_scheduler_type: bogus",
        "finetune:\n  per_device_train_batch_size: 1",
        "negatives:\n  range_min: 10\n  range_max: 10",
        "split:\n  dev: 0",
        "questions:\n  strategy: guess",
        "finetune: 3",
        "evaluation:\n  measures: 3",
    ],
)
def test_values_out_of_range_are_refused(tmp_path: Path, text: str) -> None:
    section = text.split(":")[0]
    assert re.search(rf"bessemer\.yaml: {section}", refusal(tmp_path, text))


@pytest.mark.parametrize("value", ["", ".inf", "[1]", "1" + 400 * "0"])
@pytest.mark.parametrize("key", ["task_sampling", "per_device_train_batch_size", "teacher_temperature"])
def test_what_is_no_number_is_refused_by_name(tmp_path: Path, key: str, value: str) -> None:
    assert f"bessemer.yaml: finetune.{key}: give " in refusal(tmp_path, f"finetune:\n  {key}: {value}")


@pytest.mark.parametrize(
    "text",
    [
        "out: !!python/object/apply:os.system ['touch {marker}']",
        "out: !!python/object/new:os.system ['touch {marker}']",
        "out: !!python/name:os.system",
    ],
)
def test_yaml_tags_run_nothing(tmp_path: Path, text: str) -> None:
    marker = tmp_path / "ran"
    assert "not valid YAML" in refusal(tmp_path, text.format(marker=marker))
    assert not marker.exists()


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "3"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    assert "the top level must be `key: value` lines" in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["a: [", "seed: 1\n\tmodel: x", "out: 2026-13-45", "a: " + "[" * 5000])
def test_broken_yaml(tmp_path: Path, text: str) -> None:
    assert "not valid YAML" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "line", "key", "first"),
    [
        ("finetune:\n  temperature: 0.1\nseed: 1\nfinetune:\n  lora_rank: 4\n", 4, "finetune", 1),
        ("seed: 1\nfinetune:\n  temperature: 0.1\n\n  temperature: 0.2\n", 5, "temperature", 3),
        ("tasks:\n- data: a\n  loss: cosent\n  data: b\n", 4, "data", 2),
        ("seed: 1\n'seed': 2\n", 2, "seed", 1),
        ("{seed: 1, seed: 2}", 1, "seed", 1),
    ],
)
def test_a_key_that_is_there_twice(tmp_path: Path, text: str, line: int, key: str, first: int) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(f"{tmp_path / 'bessemer.yaml'}:{line}: {key}: is in line {first} already; write the key")


def test_merged_keys_may_be_there_again(tmp_path: Path) -> None:
    text = (
        "prompts:\n"
        "  one: {<<: &both {<<: &own {query: 'Q: '}, query: 'Ask: '}, passage: 'P: '}\n"
        "  other: {<<: [*own, *both], passage: 'P: '}\n"
        "  third: *both\n"
    )
    prompts = load_config(write(tmp_path, text)).prompts
    assert [(name, own.query, own.passage) for name, own in prompts.items()] == [
        ("one", "Ask: ", "P: "),
        ("other", "Q: ", "P: "),  # of several mappings the first wins
        ("third", "Ask: ", ""),
    ]


def test_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "bessemer.yaml"
    path.write_bytes(b"out: \xff\xfe")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file or directory\); check --config"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("finetune.matryoshka_dims", "256,abc", "--matryoshka-dims: Input should be a valid integer"),
        ("negatives.shares", "top_k=half", "--shares: Input should be a valid number"),
    ],
)
def test_faults_within_a_flag_are_called_by_it(tmp_path: Path, flag: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "seed: 1"), {flag: value})
    assert str(caught.value).startswith(message)
    assert "bessemer.yaml" not in str(caught.value)


def test_a_value_where_a_section_belongs_cannot_take_a_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="finetune: must be a section"):
        load_config(write(tmp_path, "finetune: 3"), {"finetune.temperature": 0.1})


def test_values_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().finetune.temperature = 1.0  # type: ignore[misc]


SELF_EXPLANATORY = {
    "Config": {"model", "out", "workspace", "seed"},
    "QuestionsConfig": {"strategy"},
    "FinetuneConfig": {
        "per_device_train_batch_size", "weight_decay", "max_grad_norm", "lr_scheduler_type",  # Hugging Face's own
    },
    "EvaluationConfig": {"measures", "top_k", "bootstrap_samples"},
}  # fmt: skip


@pytest.mark.parametrize("section", [Config, *(type(value) for _, value in Config() if isinstance(value, Section))])
def test_every_key_is_documented(section: type[Section]) -> None:
    known = SELF_EXPLANATORY.get(section.__name__, set())
    bare = {
        name
        for name, field in section.model_fields.items()
        if not field.description and not isinstance(field.default, Section)
    }
    assert bare <= known


def test_measures_look_no_deeper_than_what_is_retrieved() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 100"):
        EvaluationConfig(top_k=5)
    with pytest.raises(
        ValueError, match=r"measures: R@200, AP@1000 look at more passages than top_k retrieves \(150\)"
    ):
        EvaluationConfig(measures=("R@200", "nDCG@10", "RR", "AP@1000"), top_k=150)
    assert EvaluationConfig(measures=("R@200",), top_k=200).top_k == 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [{data: a, tsk: qa}]", "tasks.0.tsk: unknown key; did you mean `task`?"),
        ("prompts: {faq: {qury: a, passage: b}}", "prompts.faq.qury: unknown key; did you mean `query`?"),
        (
            "final_fit: true\nfinetune: {frozen_passages: true}",
            "bessemer.yaml: final_fit mixes whole models; it does not",
        ),
        ("negatives: {range_min: 50, range_max: 10}", "negatives: range_max must be greater than range_min"),
    ],
)
def test_faults_of_lists_tables_and_whole_sections(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, text))
    assert message in str(error.value)
    assert "given: {" not in str(error.value)
