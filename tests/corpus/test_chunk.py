"""Passages: offsets, headings, lengths, on generated and on real text."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bessemer.config import ChunkingConfig
from bessemer.corpus.chunk import to_passages
from bessemer.corpus.markdown import find_sections
from bessemer.corpus.outline import outline
from bessemer.corpus.read import read_documents
from bessemer.formats.beir import write_beir
from bessemer.types import Collection, Document, Passage

SMALL = ChunkingConfig(min_tokens=3)


def count_units(texts: Sequence[str]) -> list[int]:
    """A tokenizer to count by hand: words, Chinese characters, punctuation marks, and line breaks count one each."""
    return [len(re.findall(r"[\u4e00-\u9fff]|[a-zA-Z0-9]+|[^\s\w]|\n", text)) for text in texts]


def passages_of(
    text: str, max_tokens: int = 60, config: ChunkingConfig = SMALL, **fields: object
) -> tuple[Passage, ...]:
    document = Document("d.md", text, metadata={"format": "md"}, title=str(fields.get("title", "")))
    return to_passages([document], count_units, config, max_tokens).kept


def test_sections_have_their_path_and_no_heading_line() -> None:
    text = (
        "# Guide\n\nAll about tea and more.\n\n"
        "## Brewing\n\nUse hot water for it.\n\n"
        "### Green\n\nOnly eighty degrees for it.\n"
    )
    found = [(p.headings, p.text) for p in passages_of(text)]
    assert found == [
        (("Guide",), "All about tea and more."),
        (("Guide", "Brewing"), "Use hot water for it."),
        (("Guide", "Brewing", "Green"), "Only eighty degrees for it."),
    ]


def test_underlined_headings_and_hash_in_code() -> None:
    code = "```sh\n# no heading\nmake tea now\n```"
    text = f"Tea\n===\n\nAll about tea here.\n\n{code}\n\nHot\n---\n\nBoil the water first.\n"
    found = [(p.headings, p.text) for p in passages_of(text)]
    assert found == [
        (("Tea",), "All about tea here.\n\n```sh\n# no heading\nmake tea now\n```"),
        (("Tea", "Hot"), "Boil the water first."),
    ]


def test_hash_is_no_heading_in_plain_text() -> None:
    document = Document("a.txt", "# one two three\n\nfour five six", metadata={"format": "txt"})
    (passage,) = to_passages([document], count_units, SMALL, 60).kept
    assert passage.text == document.text
    assert passage.headings == ()


def test_blank_lines_of_plain_text_are_read_in_one_pass() -> None:
    text = "\u3000\none two\nthree\n" + "\u3000" * 200_000 + "\nfour five six"
    found = outline(Document("a.txt", text, metadata={"format": "txt"}))
    assert [(text[atom.start : atom.end], atom.block) for atom in found[0].atoms] == [
        ("one two\nthree", 0),
        ("four five six", 1),
    ]


def test_heading_words_only() -> None:
    text = "# Use `pip` and [**uv**](https://x.y) { #use-pip }\n\nSome text about it."
    assert passages_of(text)[0].headings == ("Use pip and uv",)


def test_small_section_joins_its_sibling() -> None:
    text = "# A\n\nFirst section with words.\n\n## B\n\nTwo words.\n\n## C\n\nHere are some more words.\n"
    found = [(p.headings, p.text) for p in passages_of(text, config=ChunkingConfig(min_tokens=4))]
    assert found == [
        (("A",), "First section with words.\n\n## B\n\nTwo words."),
        (("A", "C"), "Here are some more words."),
    ]


def test_small_section_without_room_is_dropped_and_counted() -> None:
    words = " ".join(f"w{n}" for n in range(30)) + "."
    document = Document(
        "d.md", f"# A\n\n{words}\n\n# B\n\nShort.\n\n# C\n\n{words}\n\n# D\n", metadata={"format": "md"}
    )
    result = to_passages([document], count_units, ChunkingConfig(min_tokens=4), 36)
    assert [p.headings for p in result.kept] == [("A",), ("C",)]
    assert [(item.reason, item.text) for item in result.dropped] == [
        ("shorter than min_tokens, no neighbour to merge with", "Short."),
        ("heading without text", "D"),
    ]


def test_nothing_is_joined_over_what_was_dropped() -> None:
    # Y stands two levels below A and has no parent in common with Z, which could join A but for Y between them.
    text = "# A\n\nFive words are in here.\n\n## X\n\n### Y\n\nOne.\n\n## Z\n\nTwo.\n\n## V\n\nThree more words here."
    document = Document("d.md", text, metadata={"format": "md"})
    result = to_passages([document], count_units, ChunkingConfig(min_tokens=4), 60)
    assert [p.text for p in result.kept] == [
        "Five words are in here.",
        "## Z\n\nTwo.\n\n## V\n\nThree more words here.",
    ]
    assert [item.text for item in result.dropped] == ["One."]


def test_an_empty_heading_within_a_passage_is_not_lost() -> None:
    document = Document(
        "d.md", "# A\n\nFive words are in here.\n\n# B\n\n# C\n\nTwo.\n\n# D\n", metadata={"format": "md"}
    )
    result = to_passages([document], count_units, ChunkingConfig(min_tokens=4), 60)
    assert [p.text for p in result.kept] == ["# A\n\nFive words are in here.\n\n# B\n\n# C\n\nTwo."]
    assert [(item.reason, item.text) for item in result.dropped] == [("heading without text", "D")]


def test_paragraphs_are_packed_and_long_ones_cut_at_sentences() -> None:
    text = "a b c d.\n\ne f g h.\n\ni j k l m n o p. q r s t u v w x."
    # 18 tokens less 2 special ones: 5 + 5 fit together, then 9 and 9 do not.
    assert [p.text for p in passages_of(text, 18)] == ["a b c d.\n\ne f g h.", "i j k l m n o p.", "q r s t u v w x."]


def test_chinese_is_cut_at_its_punctuation() -> None:
    text = "今天天气很好。我们去公园散步！你想一起来吗？当然可以；现在就走。"
    assert [p.text for p in passages_of(text, 18)] == [
        "今天天气很好。我们去公园散步！",
        "你想一起来吗？当然可以；",
        "现在就走。",
    ]


def test_a_sentence_over_the_limit_is_cut_at_words_or_characters() -> None:
    for text, parts in (("word " * 100, 100), ("字" * 100, 100)):
        found = passages_of(text.strip(), 22)
        assert all(count_units([p.text])[0] <= 20 for p in found)
        assert sum(count_units([p.text])[0] for p in found) == parts


def test_a_letter_is_never_cut_from_its_accent() -> None:
    found = passages_of("e\u0301" * 60, 21)
    assert len(found) > 3
    assert all(p.text.startswith("e") for p in found)


def test_header_counts_and_an_overlong_one_is_shortened_and_counted() -> None:
    outer = " ".join(["long"] * 30)
    document = Document("d.md", f"# {outer}\n\n## Inner part\n\n" + "word " * 40, metadata={"format": "md"})
    result = to_passages([document], count_units, SMALL, 30)
    assert {p.headings for p in result.kept} == {("Inner part",)}
    assert max(count_units([p.indexed_text for p in result.kept])) + 2 <= 30
    assert [item.text for item in result.dropped] == [f"{outer} > Inner part"]


def test_ids_survive_changes_elsewhere_and_hold_no_white_space() -> None:
    sections = [f"# Part {n}\n\nSentence number {n} stands here.\n\n" for n in range(5)]
    document = Document("my notes/100%.md", "".join(sections), metadata={"format": "md"})
    changed = Document(document.doc_id, "# New\n\nAn added part in front.\n\n" + "".join(sections[:3] + sections[4:]))
    before = {p.text: p.passage_id for p in to_passages([document], count_units, SMALL, 60).kept}
    after = {p.text: p.passage_id for p in to_passages([changed], count_units, SMALL, 60).kept}
    common = before.keys() & after.keys()
    assert len(common) == 4
    assert all(before[text] == after[text] for text in common)
    assert all(identity.startswith("my%20notes/100%25.md#") for identity in before.values())


def test_equal_passages_of_a_document_get_different_ids() -> None:
    found = passages_of("# A\n\nThe same words here.\n\n# A\n\nThe same words here.\n")
    assert len({p.passage_id for p in found}) == 2


def headings_of(document: Document, kind: str) -> list[tuple[int, int]]:
    """Spans of the heading lines."""
    sections = find_sections(document.text) if kind == "md" else []
    return [(section.heading_start, section.start) for section in sections]


line = st.one_of(
    st.text(alphabet="abc XYZ.,!?中文。！？；#*`-\u0301😀|", max_size=60),
    st.sampled_from(
        ["# Top", "## Sub { #x }", "### Deep *er*", "```", "```py", "~~~", "---", "===", "- item one", "| a | b |", "",
         "word " * 40,
         "很长的一句话" * 30, "    indented", "> quote", "1. first"]
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(line, max_size=25), st.integers(16, 80), st.sampled_from(["md", "txt", "pdf"]))
def test_offsets_lengths_and_nothing_lost(lines: list[str], max_tokens: int, kind: str) -> None:
    document = Document("d", "\n".join(lines), title="A title", metadata={"format": kind})
    result = to_passages([document], count_units, SMALL, max_tokens)
    position = 0
    for passage in result.kept:
        assert document.text[passage.start : passage.end] == passage.text
        assert passage.text == passage.text.strip() != ""
        assert passage.start >= position  # no overlap, in order
        position = passage.end
        assert count_units([passage.indexed_text])[0] + 2 <= max_tokens
    assert len({p.passage_id for p in result.kept}) == len(result.kept)
    # What is in no passage is a heading line, or was dropped.
    rest = list(document.text)
    for start, end in [(p.start, p.end) for p in result.kept] + headings_of(document, kind):
        rest[start:end] = " " * (end - start)
    lost = [int(item.id.split("@")[1]) for item in result.dropped if not item.reason.startswith("outer headings")]
    assert not any(p.start <= place < p.end for p in result.kept for place in lost)
    dropped = " ".join(item.text for item in result.dropped)
    assert all(word in dropped for word in re.findall(r"\w+", "".join(rest)))


@pytest.mark.real_data
@pytest.mark.parametrize(("folder", "low", "high"), [("fastapi_en", 2000, 4500), ("fastapi_zh", 1000, 2500)])
def test_real_markdown(data_dir: Path, folder: str, low: int, high: int) -> None:
    documents = read_documents(data_dir / "documents" / folder, ChunkingConfig()).kept
    result = to_passages(documents, count_units, ChunkingConfig(), 256)
    texts = {document.doc_id: document.text for document in documents}
    assert low < len(result.kept) < high
    assert all(texts[p.doc_id][p.start : p.end] == p.text for p in result.kept)
    assert max(count_units([p.indexed_text for p in result.kept])) + 2 <= 256
    assert not any("{ #" in heading for p in result.kept for heading in p.headings)


def test_passages_have_the_metadata_of_their_document() -> None:
    document = Document("a/b.md", "some words in here", "T", "/mnt/docs/a/b.md", {"year": 2020, "tags": ["x"]})
    [passage] = to_passages([document], count_units, ChunkingConfig(min_tokens=1), 100).kept
    assert passage.metadata == {"year": 2020, "tags": ["x"], "source": "b.md"}
    hash(passage)


def test_a_file_name_that_is_no_utf8_can_be_written(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.md"
    with open(path, "wb") as stream:
        stream.write(b"some words in here")
    for source in (tmp_path, Path(os.fsdecode(path))):
        documents = read_documents(source, ChunkingConfig()).kept
        [passage] = to_passages(documents, count_units, ChunkingConfig(min_tokens=1), 100).kept
        assert (passage.doc_id, passage.metadata["source"]) == ("caf\\udce9.md", "caf\\udce9.md")
        write_beir(Collection("x", (passage,), {}), tmp_path / "beir")
