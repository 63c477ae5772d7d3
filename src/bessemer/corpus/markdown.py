"""Markdown: noise taken out of it, and its sections found in it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from bessemer.corpus.content import Content
from bessemer.text import code_spans, plain_inline

MAX_HEADING = 200  # characters; a longer "heading" is a paragraph

# A fence may open behind the mark of a list item, but never closes there.
_OPENING = re.compile(r"[ \t]*(?:(?:>|(?:[-*+]|\d{1,9}[.)])[ \t])[ \t]*)*(`{3,}|~{3,})([^`\n]*)$")
_CLOSING = re.compile(r"[ \t]*(?:>[ \t]*)*(`{3,}|~{3,})[ \t]*$")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*)$")
_CLOSING_MARKS = re.compile(r"(?<=[ \t])#+$")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_ATTRIBUTES = re.compile(r"(?<![ \t])[ \t]*\{:?[ \t]*[#.][^{}\n]*\}[ \t]*$")
_UNSEEN = re.compile(r"<!--|<style\b|<script\b", re.IGNORECASE)
_UNSEEN_ENDS = {
    "<!--": re.compile("-->"),
    "<style": re.compile(r"</style\s*>", re.IGNORECASE),
    "<script": re.compile(r"</script\s*>", re.IGNORECASE),
}
_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|br|button|center|code|dd|details|dfn|div|dl|dt|em|figure|figcaption|font|h[1-6]|hr|i|iframe|"
    r"img|kbd|li|mark|ol|p|picture|pre|q|s|section|small|source|span|strong|sub|summary|sup|svg|path|table|tbody|td|"
    r"tfoot|th|thead|tr|u|ul|video)(?:\s(?:[^<>\"']|\"[^\"]*\"|'[^']*')*)?/?>",
    re.IGNORECASE,
)
_COLOUR_TAG = re.compile(r"</?(?:font|span|b|u|i|em|strong)(?:\s[^<>\n]*)?>", re.IGNORECASE)
_INCLUDE = re.compile(r"[ \t]*(?:\{\*.*\*\}|\{%.*%\}|\{!.*!\}|--8<--.*)[ \t]*$")
_ADMONITION = re.compile(r"[ \t]*/{3,}[ \t]*(?:[\w-]+[ \t]*(?:\|(.*))?)?$")  # /// tip | Title
_CONTAINER = re.compile(r"[ \t]*:{3,}[ \t]*[^\s\[{]*(.*)$")  # ::: tip Title, :::tip[Title]{.wide}


@dataclass(frozen=True, slots=True)
class Section:
    """The lines under one heading: ``text[start:end]`` is the body, ``text[heading_start:start]`` the heading line.

    ``headings`` is the path down to it, ``level`` its own number of ``#``; text in front of all headings has level 0.
    """

    headings: tuple[str, ...]
    level: int
    heading_start: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Line:
    """``text[start:end]``, its newline included. ``fenced`` also holds for the two fence lines themselves."""

    start: int
    end: int
    fenced: bool
    info: str = ""  # what stands behind the opening fence


def scan_lines(text: str) -> Iterator[Line]:
    """The lines of a Markdown text, told apart by whether they stand in a code fence."""
    position, fence, info = 0, "", ""
    while position < len(text):
        end = text.find("\n", position) + 1 or len(text)
        raw = text[position:end].rstrip("\n")
        if fence:
            yield Line(position, end, True, info)
            closing = _CLOSING.match(raw)
            if closing and closing[1].startswith(fence):
                fence, info = "", ""
        elif opening := _OPENING.match(raw):
            fence, info = opening[1], opening[2].strip()
            yield Line(position, end, True, info)
        else:
            yield Line(position, end, False)
        position = end


def clean_markdown(text: str) -> Content:
    """Take out what is markup for a site generator: front matter (its title is kept), comments, HTML tags, heading
    attributes, include directives and the fences of admonitions, whose titles stay. Code fences stay as they are, but
    for terminal colour tags.
    """
    text, title = _front_matter(text)
    kept: list[str] = []
    prose: list[str] = []
    for line in scan_lines(text):
        raw = text[line.start : line.end]
        if line.fenced:
            kept += [_clean_prose("".join(prose)), _clean_code(raw, line.info)]
            prose = []
        else:
            prose.append(raw)
    kept.append(_clean_prose("".join(prose)))
    return Content("".join(kept), title)


def _front_matter(text: str) -> tuple[str, str]:
    match = re.match(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)", text, re.DOTALL)
    if match is None:
        return text, ""
    try:
        values = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, ""
    if not isinstance(values, dict):
        return text, ""
    title = values.get("title")
    return text[match.end() :], title.strip()[:MAX_HEADING] if isinstance(title, str) else ""


def _clean_code(line: str, info: str) -> str:
    if info.split(" ")[0].casefold() in ("console", "shell-session", "ansi") and "<" in line:
        return html.unescape(_COLOUR_TAG.sub("", line))
    return line


def _clean_prose(text: str) -> str:
    lines = []
    for line in _without_unseen(text).splitlines(keepends=True):
        if _INCLUDE.match(line):
            continue
        box = _ADMONITION.match(line) or _CONTAINER.match(line)
        if box:
            line = _box_title(box[1] or "") + "\n"
        if _ATX.match(line.rstrip("\n")):
            line = _ATTRIBUTES.sub("", line.rstrip("\n")) + "\n"
        cleaned = _strip_tags(line)
        if cleaned.strip() or not line.strip():
            lines.append(cleaned)
    return "".join(lines)


def _without_unseen(text: str) -> str:
    """Comments, styles and scripts go; what is never closed is text, and its end is looked for only once."""
    parts: list[str] = []
    unclosed: set[str] = set()
    position = 0
    for opening in _UNSEEN.finditer(text):
        kind = opening.group().lower()
        if opening.start() < position or kind in unclosed:
            continue
        end = _UNSEEN_ENDS[kind].search(text, opening.end())
        if end is None:
            unclosed.add(kind)
        else:
            parts.append(text[position : opening.start()])
            position = end.end()
    return "".join((*parts, text[position:]))


def _box_title(text: str) -> str:
    return re.sub(r"^\[(.*)\]$", r"\1", _ATTRIBUTES.sub("", text).strip())


def _strip_tags(line: str) -> str:
    """Remove HTML tags and entities outside of code spans; the text between them stays."""
    if "<" not in line and "&" not in line:
        return line
    parts, position = [], 0
    for start, end, _ in code_spans(line):
        parts += [html.unescape(_TAG.sub("", line[position:start])), line[start:end]]
        position = end
    parts.append(html.unescape(_TAG.sub("", line[position:])))
    return "".join(parts)


def find_sections(text: str) -> list[Section]:
    """Sections in order; they cover the whole text."""
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    heading_start = body_start = 0
    previous: Line | None = None  # a line of text that an underline would turn into a heading
    for line in scan_lines(text):
        level, title, start = _heading(text, line, previous)
        if level:
            sections.append(_section(path, heading_start, body_start, start))
            path = [(depth, name) for depth, name in path if depth < level] + [(level, title)]
            heading_start, body_start = start, line.end
        previous = line if not line.fenced and not level and _can_be_underlined(text[line.start : line.end]) else None
    sections.append(_section(path, heading_start, body_start, len(text)))
    return [section for section in sections if section.heading_start < section.end]


def _section(path: list[tuple[int, str]], heading_start: int, start: int, end: int) -> Section:
    level = path[-1][0] if path else 0
    return Section(tuple(name for _, name in path), level, heading_start, start, end)


def _heading(text: str, line: Line, previous: Line | None) -> tuple[int, str, int]:
    """Level (0: no heading), plain title and start of the heading that this line is or completes."""
    if line.fenced:
        return 0, "", 0
    raw = text[line.start : line.end].rstrip("\n")
    match = _ATX.match(raw)
    if match:
        title = plain_heading(_CLOSING_MARKS.sub("", match[2].rstrip(" \t")))
        return (len(match[1]), title, line.start) if 0 < len(title) <= MAX_HEADING else (0, "", 0)
    underline = _SETEXT.match(raw) if previous else None
    if underline and previous:
        title = plain_heading(text[previous.start : previous.end])
        if 0 < len(title) <= MAX_HEADING:
            return (1 if underline[1][0] == "=" else 2), title, previous.start
    return 0, "", 0


def _can_be_underlined(raw: str) -> bool:
    return bool(raw.strip()) and re.match(r"\s*(?:[|>*+-]|\d+[.)]\s|#)|\t| {4}", raw) is None


def plain_heading(title: str) -> str:
    """The words of a heading, without attributes, emphasis, links or code marks.

    Tags were taken out when the file was read: what looks like one here, in code or of a page about HTML, is a word.
    """
    return plain_inline(_ATTRIBUTES.sub("", title.strip()))
