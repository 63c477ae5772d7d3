"""Markdown of site generators, line by line."""

from __future__ import annotations

import pytest

from bessemer.corpus.markdown import clean_markdown, find_sections, plain_heading


def test_headings_keep_the_identifiers_in_their_code() -> None:
    assert plain_heading("The `<table>` and `age__gte`") == "The <table> and age__gte"
    text = clean_markdown("## The `<table>` <b>element</b>\n\n## The &lt;table&gt; element {: #x }\n").text
    headings = [section.headings for section in find_sections(text)]
    assert headings == [("The <table> element",), ("The <table> element",)]


@pytest.mark.parametrize("mark", ["-", "12.", "> *", "- 1)"])
def test_a_fence_opens_behind_a_list_mark(mark: str) -> None:
    text = f"{mark} ```bash\n  # no heading\n  - ```\n  ```\n\n## After\n"
    assert [section.headings for section in find_sections(text)] == [(), ("After",)]


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("::: warning Never switch off the pump", "Never switch off the pump"),
        (":::note[See [here](x.md)]{.wide}", "See [here](x.md)"),
        ("  :::: {.note #n}", ""),
        ("::: bessemer.corpus.read", ""),
        (":::", ""),
        ("/// tip | Careful ", "Careful"),
        ("/// tip", ""),
        ("///", ""),
        ("/// a path", "/// a path"),
    ],
)
def test_titles_of_boxes_stay(line: str, title: str) -> None:
    assert clean_markdown(f"one\n{line}\ntwo\n").text == f"one\n{title}\ntwo\n"


def test_comments_styles_and_scripts_go_up_to_their_end() -> None:
    text = "a<!-- x\n<!-- x -->b <STYLE>x</style\n>c<script src='x'>x<!--x</script>d <styled>\n<!-- never closed"
    assert clean_markdown(text).text == "ab cd <styled>\n<!-- never closed"


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("# Tea ## ", "Tea"),
        ("## C# \t", "C#"),
        ("# ##", "##"),
        ("# Tea # two ##", "Tea # two"),
        ("   ### Tea \t{: #tea }", "Tea"),
    ],
)
def test_marks_around_a_heading(line: str, heading: str) -> None:
    assert find_sections(line + "\n")[0].headings == (heading,)


# Each would take minutes where a pattern begins anew at every character, or looks for an end that never comes.
@pytest.mark.parametrize("text", ["<!-- " * 200_000, "<style>" * 200_000, "<script " * 200_000])
def test_openings_without_an_end_are_text(text: str) -> None:
    assert clean_markdown(text).text == text


def test_a_heading_of_spaces_is_read_in_one_pass() -> None:
    text = "# a" + " " * 200_000 + "b"
    assert clean_markdown(text).text == text + "\n"
    assert find_sections(text)[0].headings == ("a b",)
