from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bessemer.config import ChunkingConfig, QuestionsConfig
from bessemer.corpus.chunk import to_passages
from bessemer.corpus.read import read_documents
from bessemer.questions.candidates import BodyCandidates, Candidate, heading_candidates
from bessemer.questions.extract import Extracted, extract_questions
from bessemer.questions.phrases import content_words
from bessemer.questions.withhold import withhold
from bessemer.text import normal_form
from bessemer.types import Passage

FILLER = " ".join(f"filler{number}" for number in range(12)) + "."


def passage(identity: str, text: str = FILLER, headings: Sequence[str] = (), title: str = "") -> Passage:
    return Passage(identity, identity.split("#")[0], text, title, 0, len(text), tuple(headings))


def heading(text: str, *relevant: str) -> Candidate:
    return Candidate("heading", text, relevant[0], relevant)


def faults(passages: Sequence[Passage]) -> dict[str, str]:
    return {candidate.text: fault for candidate, fault in heading_candidates(passages)}


def holds(text: str, query: str) -> bool:
    return f" {normal_form(query)} " in f" {normal_form(text)} "


def test_a_heading_is_about_its_whole_section() -> None:
    passages = [
        passage("a#1", headings=("Tea guide book", "Brewing green tea")),
        passage("a#2", headings=("Tea guide book", "Brewing green tea", "Water temperature table")),
        passage("a#3", headings=("Tea guide book", "Serving with milk")),
    ]
    relevant = {candidate.text: candidate.relevant for candidate, fault in heading_candidates(passages) if not fault}
    assert relevant == {
        "Tea guide book": ("a#1", "a#2", "a#3"),
        "Brewing green tea": ("a#1", "a#2"),
        "Water temperature table": ("a#2",),
        "Serving with milk": ("a#3",),
    }


def test_headings_that_are_no_question_have_a_reason() -> None:
    passages = [
        passage(f"a#{n}", headings=("A very large chapter", f"Section number {'abcdefgh'[n]} here")) for n in range(6)
    ]
    passages += [
        passage("b#1", headings=("See also",)),
        passage("b#2", headings=("相关链接",)),
        passage("b#3", headings=("FAQ",)),
    ]
    passages += [passage("c#1", headings=("Refund policy",)), passage("d#1", headings=("refund  POLICY",))]
    passages += [passage("e#1", headings=("0.44.1 (2019-12-04)",)), passage("e#2", headings=("如何办理退款",))]
    found = faults(passages)
    assert found["A very large chapter"].startswith("too broad")
    assert found["See also"] == found["相关链接"] == "too generic"
    assert found["FAQ"] == found["0.44.1 (2019-12-04)"] == "too short"
    assert found["Refund policy"] == found["refund  POLICY"] == "ambiguous: the same heading elsewhere"
    assert found["如何办理退款"] == ""


def test_a_title_from_a_file_name_is_no_question() -> None:
    passages = [
        passage("REPORT_2023 final.pdf#1", title="REPORT_2023 final"),
        passage("b.html#1", title="Returning a damaged parcel"),
    ]
    assert faults(passages) == {"Returning a damaged parcel": ""}


def test_a_heading_is_withheld_from_header_title_and_text() -> None:
    text = f"## Brewing **green** tea {{\n{FILLER}\nMore on brewing green tea, and Brewing-green tea."
    given = passage("a#1", text, ("Guide", "Brewing green tea"), title="Brewing Green Tea")
    reduced = withhold(given, heading("Brewing green tea", "a#1"))
    assert reduced is not None
    assert reduced.headings == ("Guide",)
    assert reduced.title == ""
    assert reduced.body == f"{FILLER}\nMore on , and Brewing-green tea."
    assert reduced.text == text


def test_chinese_words_are_withheld_wherever_they_stand() -> None:
    text = "退款流程如下：先登录账户，再申请退款流程编号，然后等待三个工作日，最后查看银行卡余额是否增加。"
    reduced = withhold(passage("a#1", text), Candidate("phrase", "退款流程", "a#1", ("a#1",)))
    assert reduced is not None
    assert reduced.withheld == ((0, 4), (16, 20))
    assert "退款流程" not in reduced.indexed_text


def test_words_in_another_unicode_form_are_withheld() -> None:
    text = f"Up to 500 euro. {FILLER} At most ５００ EURO."
    reduced = withhold(passage("a#1", text), Candidate("title", "５００ euro", "a#1", ("a#1",)))
    assert reduced is not None
    assert [text[start:end] for start, end in reduced.withheld] == ["500 euro", "５００ EURO"]


def test_a_passage_that_would_be_left_too_short_is_refused() -> None:
    assert withhold(passage("a#1", "Tea needs water. Only these words."), heading("needs water", "a#1")) is None
    text = "one two three four five six seven eight nine ten. " + "a b c d e f g h i j k l m n o p q r s t u"
    half = Candidate("sentence", "a b c d e f g h i j k l m n o p q r s t u", "a#1", ("a#1",), (50, len(text)))
    assert withhold(passage("a#1", text), half) is None


def test_a_query_inside_a_longer_heading_is_refused() -> None:
    assert (
        withhold(passage("a#1", headings=("All about green tea",)), Candidate("phrase", "green tea", "a#1", ("a#1",)))
        is None
    )


def test_sentences_stand_alone_and_come_from_prose() -> None:
    text = (
        "Boiling water destroys the delicate flavour of green tea leaves. It is better to wait then.\n\n"
        "```\nThis code line says boiling water is bad for tea.\n```\n\n"
        "| Boiling water | ruins the flavour of the tea leaves. |\n\n"
        "The example above shows boiling water and green tea leaves. "
        "Green tea leaves lose flavour in water that is boiling hot."
    )
    found = [candidate.text for candidate in BodyCandidates([passage("a#1", text)]).sentences(passage("a#1", text))]
    assert sorted(found) == [
        "Boiling water destroys the delicate flavour of green tea leaves.",
        "Green tea leaves lose flavour in water that is boiling hot.",
    ]


MIXED = """# Pumps

The controller's pump may start twelve times an hour, twelve at most. **Twelve starts** lock the motor's controller!
A locked motor shows `E17`, e.g. on the display of the controller; nobody starts a locked pump again.

- 水泵每小时最多启动十二次。超过这个次数，控制器会锁定电机，并在显示屏上给出代码 E17。
- 电机锁定以后，管理员在控制器上输入代码，水泵才能再次启动！Locked pumps of type X-200 wait for an hour. 启动次数
  由控制器记录在存储卡上。
"""


def test_sentences_are_ordered_by_what_they_share_with_the_rest() -> None:
    """As if the words of the rest were read anew for every sentence."""
    one, other = passage("a#1", MIXED), passage("b#1", "Motors of pumps are locked. 电机被锁定。")
    body = BodyCandidates([one, other])

    def shared(candidate: Candidate) -> float:
        start, end = candidate.span or (0, 0)
        rest = set(content_words(f"{MIXED[:start]} {MIXED[end:]}"))
        words = set(content_words(candidate.text))
        return round(sum(body.rarity(word) for word in words & rest) / len(words), 12)

    found = body.sentences(one)
    assert len(found) == 7
    assert found == sorted(found, key=lambda candidate: (-shared(candidate), candidate.span))


def test_the_words_of_a_passage_are_not_read_anew_for_every_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    one = passage("a#1", MIXED * 20)
    body = BodyCandidates([one])
    read: list[str] = []
    monkeypatch.setattr(
        "bessemer.questions.candidates.content_words", lambda text: read.append(text) or content_words(text)
    )
    assert len(body.sentences(one)) == 140
    assert sum(map(len, read)) < 5 * len(one.text)


def test_chinese_sentences_with_words_that_only_look_like_pointing() -> None:
    good = [
        "所有脚本文件都放在安装目录的脚本文件夹里。",
        "其他用户可以在管理后台查看当前文档的权限设置。",
        "并发请求共享同一个上下文对象和数据库连接池。",
        "服务器上文件的访问权限由管理员统一分配和管理。",
    ]
    bad = [
        "所以管理员可以在管理后台查看文档的权限设置。",
        "其中管理员可以在管理后台查看文档的权限设置。",
        "管理员按照上文说明在管理后台查看文档的权限。",
        "管理员根据前面步骤在管理后台查看文档的权限。",
        "管理员阅读本节内容以后查看管理后台的权限设置。",
    ]
    one = passage("a#1", "\n\n".join([*good, *bad]))
    assert {candidate.text for candidate in BodyCandidates([one]).sentences(one)} == set(good)


def test_phrases_are_runs_of_content_words() -> None:
    text = "We sell a stainless steel kettle for the office. 本公司提供不锈钢电热水壶。"
    found = [candidate.text for candidate in BodyCandidates([passage("a#1", text)]).phrases(passage("a#1", text))]
    assert "stainless steel kettle" in found
    assert not any("the" in phrase.split() for phrase in found)


def corpus() -> tuple[list[Passage], dict[str, str]]:
    """Twelve documents of three sections; every word belongs to one passage."""
    passages, splits = [], {}
    for d in range(12):
        splits[f"d{d}"] = "train" if d < 8 else "dev" if d < 10 else "test"
        for s in range(3):
            name = f"q{'abcdefghijkl'[d]}{'xyz'[s]}"
            words = [f"{name}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
            parts = [words[place : place + 6] for place in range(0, 24, 6)]
            text = " ".join(f"Big {' '.join(part[:3])} and {' '.join(part[3:])} with {words[-1]}." for part in parts)
            passages.append(passage(f"d{d}#{s}", text, (f"Handbook of {name}top", f"Working with {name}head")))
    return passages, splits


def test_counts_splits_and_nothing_asked_stands_in_its_passage() -> None:
    passages, splits = corpus()
    result = extract_questions(passages, splits, QuestionsConfig(per_passage=2, per_test_passage=1), 42)
    assert {name: len(judged.queries) for name, judged in result.splits.items()} == {
        "train": 48,
        "dev": 6,
        "test": 6,
        "seen": 4,
    }
    assert [p.passage_id for p in result.passages] == [p.passage_id for p in passages]
    by_id = {p.passage_id: p for p in result.passages}
    for name, judged in result.splits.items():
        for query in judged.queries:
            assert query.origin == "extracted"
            for passage_id in judged.qrels[query.query_id]:
                assert splits[passage_id.split("#")[0]] == ("train" if name == "seen" else name)
                assert not holds(by_id[passage_id].indexed_text, query.text)
    texts = [normal_form(query.text) for judged in result.splits.values() for query in judged.queries]
    assert len(texts) == len(set(texts))


def test_same_seed_same_questions() -> None:
    passages, splits = corpus()
    first, again, other = (extract_questions(passages, splits, QuestionsConfig(), seed) for seed in (1, 1, 2))
    assert first == again
    assert first.splits != other.splits


def test_words_of_two_passages_are_ambiguous_and_counted() -> None:
    passages, splits = corpus()
    shared = "Shared wording about seven different kettles stands in both of them."
    doubled = [
        passage(p.passage_id, f"{shared} {p.text} Seven kettles, different wording.", p.headings)
        if p.doc_id in ("d0", "d8")
        else p
        for p in passages
    ]
    result = extract_questions(doubled, splits, QuestionsConfig(), 42)
    asked = [query.text for judged in result.splits.values() for query in judged.queries]
    assert shared not in asked
    assert any(d.text == shared and d.reason.startswith("ambiguous") and d.passage_id for d in result.dropped)


def test_no_question_for_a_split_is_told_by_its_reasons() -> None:
    passages, splits = corpus()
    poor = [passage(p.passage_id, "Only a few words.", ("FAQ",)) if splits[p.doc_id] == "test" else p for p in passages]
    result = extract_questions(poor, splits, QuestionsConfig(), 42)
    assert not result.splits["test"].queries
    assert {item.reason for item in result.dropped if splits[(item.passage_id or "").split("#")[0]] == "test"} == {
        "too short"
    }


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["fastapi_en", "fastapi_zh"])
def test_real_documents(data_dir: Path, folder: str) -> None:
    documents = read_documents(data_dir / "documents" / folder, ChunkingConfig()).kept
    passages = to_passages(documents, lambda texts: [len(text) // 3 for text in texts], ChunkingConfig(), 256).kept
    names = ["train", "train", "train", "dev", "test"]
    splits = {document.doc_id: names[number % 5] for number, document in enumerate(documents)}
    result: Extracted = extract_questions(passages, splits, QuestionsConfig(), 42)
    n_train = sum(splits[p.doc_id] == "train" for p in passages)
    assert len(result.splits["train"].queries) > 0.7 * n_train
    by_id = {p.passage_id: p for p in result.passages}
    for judged in result.splits.values():
        for query in judged.queries:
            for passage_id in judged.qrels[query.query_id]:
                assert not holds(by_id[passage_id].indexed_text, query.text)
