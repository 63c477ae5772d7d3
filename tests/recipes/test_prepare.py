from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from bessemer.config import Config
from bessemer.errors import ConfigError, DataError
from bessemer.formats.beir import read_beir
from bessemer.recipes.prepare import prepare, write_prepared


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(re.findall(r"[\u4e00-\u9fff]|\w+", text)) for text in texts]


def write_source(folder: Path) -> Path:
    folder.mkdir()
    for number, topic in enumerate(["apples", "bridges", "cameras", "deserts"]):
        own = ". ".join(f"Sentence {place} is about {topic} {number * 100 + place}" for place in range(20))
        (folder / f"{topic}.md").write_text(
            f"# About {topic}\n\n{own}.\n\n# Notice\n\n{'legal ' * 20}\n", encoding="utf-8"
        )
    (folder / "logo.png").write_bytes(b"x")
    return folder


def test_funnel_adds_up_and_the_folder_reads_back(tmp_path: Path) -> None:
    prepared = prepare(Config(source=str(write_source(tmp_path / "source"))), count_words, 64)
    stages = {stage["stage"]: stage for stage in prepared.funnel}
    assert list(stages) == ["read", "clean", "chunk", "dedup", "split"]
    assert stages["read"] == {"stage": "read", "kept": 4, "dropped": 1, "reasons": {"unsupported type .png": 1}}
    assert stages["dedup"]["reasons"] == {"exact duplicate": 3}
    assert stages["chunk"]["kept"] - 3 == stages["dedup"]["kept"] == len(prepared.passages)
    assert set(prepared.splits.values()) == {"train", "dev", "test"}
    write_prepared(prepared, tmp_path / "out", "source")
    loaded = read_beir(tmp_path / "out")
    assert [p.passage_id for p in loaded.collection.passages] == [p.passage_id for p in prepared.passages]
    lines = (tmp_path / "out" / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == len(prepared.dropped) == 4
    assert all({"id", "stage", "reason", "text"} <= row.keys() for row in rows)
    duplicates = [row for row in rows if row["stage"] == "dedup"]
    assert {row["passage_id"] for row in duplicates} <= {p.passage_id for p in prepared.passages}


def test_a_single_passage_or_document_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("Just one short text of nine words in all.", encoding="utf-8")
    with pytest.raises(DataError, match=r"1 passage\(s\) from 1 document\(s\)"):
        prepare(Config(source=str(tmp_path)), count_words, 64)
    (tmp_path / "one.txt").write_text(
        " ".join(f"Sentence number {n} stands here." for n in range(60)), encoding="utf-8"
    )
    with pytest.raises(DataError, match="too few for train, dev and test"):
        prepare(Config(source=str(tmp_path)), count_words, 64)


def test_no_source() -> None:
    with pytest.raises(ConfigError, match="--source"):
        prepare(Config(), count_words, 64)


def test_the_same_source_gives_the_same_result(tmp_path: Path) -> None:
    config = Config(source=str(write_source(tmp_path / "source")))
    assert prepare(config, count_words, 64) == prepare(config, count_words, 64)
