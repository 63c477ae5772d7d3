"""Generated questions before a person: written for review, read back, accepted, edited and rejected."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import english_world
from bessemer.config import Config
from bessemer.errors import ConfigError
from bessemer.formats import load_collection
from bessemer.recipes.questions import questions_folder
from scripted_llm import llm_of, obliging, serving

Configure = Callable[..., Config]


def filled_in(file: Path, decisions: Mapping[int, Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows of a review, all accepted but for those given."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = [{**row, "decision": "accept", **decisions.get(i, {})} for i, row in enumerate(csv.DictReader(stream))]
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_a_person_has_the_last_word(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    with serving(obliging) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server))
        first = questions_folder(config, review=str(file))
        assert not Path(config.out).exists()
        assert "run the same command again" in first["notes"][0]
        lines = file.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
        n_questions = lines.count("\nmined-") + lines.count("\nparaphrased-")
        edited = {"decision": "edit", "edited question": "asked by a person"}
        rows = filled_in(file, {0: {"decision": "reject"}, 1: edited})
        assert len(rows) == n_questions == first["funnel"][-1]["kept"]
        n_calls = len(server.requests)
        result = questions_folder(config, review=str(file))
        assert len(server.requests) == n_calls
    texts = {q.text for judged in load_collection(config.out).collection.splits.values() for q in judged.queries}
    assert "asked by a person" in texts
    assert rows[0]["question"] not in texts
    assert result["funnel"][-1] == {
        "stage": "review",
        "kept": n_questions - 1,
        "dropped": 1,
        "reasons": {"rejected": 1},
    }


def test_questions_that_are_edited_to_the_same_words(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    file = tmp_path / "review.csv"
    with serving(obliging) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server))
        questions_folder(config, review=str(file))
        splits = [row["split"] for row in filled_in(file, {})]
        edited = {"decision": "edit", "edited question": "asked by a person"}
        tested = [i for i, split in enumerate(splits) if split == "test"][:2]
        filled_in(file, dict.fromkeys((splits.index("train"), *tested), edited))
        result = questions_folder(config, review=str(file))
    asked = load_collection(config.out).collection.splits
    holding = [split for split, judged in asked.items() for q in judged.queries if q.text == "asked by a person"]
    assert holding == ["test"]
    last = result["funnel"][-1]
    assert (last["stage"], last["reasons"]) == ("duplicates", {"asks the same as another question": 2})
    assert last["kept"] == len(splits) - 2 == sum(len(judged.queries) for judged in asked.values())


def test_a_question_that_was_reviewed_and_is_gone_is_told(
    configure: Configure, english_beir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "review.csv"
    with serving(obliging) as server:
        config = configure(tmp_path, data=str(english_beir), llm=llm_of(server))
        questions_folder(config, review=str(file))
        filled_in(file, {0: {"id": "mined-of-another-day"}, 1: {"id": "mined-of-yesterday", "decision": "reject"}})
        result = questions_folder(config, review=str(file))
    assert any(note.startswith("1 questions that the review accepts or edits") for note in result["notes"])
    assert result["funnel"][-1]["reasons"] == {"nobody has decided": 2}


def test_a_review_of_extracted_questions(configure: Configure, english_beir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--review is for generated questions"):
        questions_folder(configure(tmp_path, data=str(english_beir)), review="r.csv")


@pytest.mark.parametrize("reviewed", [False, True])
def test_own_questions_stand_beside_generated_ones(
    configure: Configure, english_documents: Path, tmp_path: Path, reviewed: bool
) -> None:
    """They judge alone where a split has any, and train with the others, which a person may have looked at before."""
    documents = sorted(str(file.relative_to(english_documents)) for file in english_documents.rglob("*.md"))
    own = [{"query": f"what may I ask of {name}", "source": name} for name in documents]
    own.append({"query": "who wrote the manual", "source": "manual.md"})
    english_world.write_jsonl(tmp_path / "own.jsonl", own)
    review = str(tmp_path / "review.csv") if reviewed else None
    with serving(obliging) as server:
        source, queries = str(english_documents), str(tmp_path / "own.jsonl")
        config = configure(tmp_path, source=source, queries=queries, llm=llm_of(server))
        if review:
            questions_folder(config, review=review)
            rows = filled_in(Path(review), {0: {"decision": "reject"}})
            assert not any(row["question"].startswith("what may I ask of") for row in rows)
        result = questions_folder(config, review=review)
    splits = load_collection(config.out).collection.splits
    asked = {split: [query.text for query in judged.queries] for split, judged in splits.items()}
    n_own = {split: sum(text.startswith("what may I ask of") for text in texts) for split, texts in asked.items()}
    assert sum(n_own.values()) == len(documents)
    assert 0 < n_own["train"] < len(asked["train"])
    for split in ("dev", "test"):
        assert n_own[split] == len(asked[split]) > 0
    assert result["funnel"][-1]["reasons"] == {"source 'manual.md' is not among the documents read": 1}
    if reviewed:
        assert rows[0]["question"] not in asked["train"] + asked["dev"] + asked["test"]
