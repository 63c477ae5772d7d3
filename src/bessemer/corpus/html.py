"""HTML to text with Markdown headings. Built on the standard parser: no network, no entities, no external files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bessemer.corpus.content import MAX_CHARACTERS, Content, UnreadableError
from bessemer.corpus.decode import decode_text
from bessemer.errors import ConfigError

MAX_DEPTH = 400  # nesting of elements; a real page stays far below

_SKIPPED = {
    "script", "style", "noscript", "template", "head", "nav", "svg", "math", "iframe", "object", "button",
    "select", "input", "textarea", "canvas", "audio", "video",
}  # fmt: skip
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "footer", "form", "header", "hr", "html", "li", "main", "ol", "p", "section", "summary", "table", "ul",
}  # fmt: skip
_LINE_BLOCKS = {"li", "dt", "dd", "summary", "figcaption"}  # end a line, not a paragraph
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?\s*([\w-]{2,30})", re.IGNORECASE)


def read_html(data: bytes) -> Content:
    """Visible text; ``<h1>``-``<h6>`` as ``#`` lines, ``<pre>`` as code fences, table rows as lines with ``|``.

    Scripts, styles, navigation, controls of forms and hidden elements are left out. What stands outside of ``<main>``
    is taken out. Raises UnreadableError for bytes that are not in the declared encoding, ConfigError when
    beautifulsoup4 is not installed.
    """
    try:
        from bs4 import BeautifulSoup
    except ImportError:
        raise ConfigError('reading HTML needs beautifulsoup4: pip install "bessemer[documents]"') from None
    declared = _META_CHARSET.search(data[:2048])
    soup = BeautifulSoup(decode_text(data, declared[1].decode("ascii") if declared else None), "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    parts, rest = _main_parts(soup.body or soup)
    writer = _Writer()
    for part in parts:
        writer.walk(part)
    return Content(writer.text(), title, {"outside of the main element": (rest,)} if rest else {})


def _main_parts(body: Any) -> tuple[list[Any], str]:
    """What to read, and the text that is left out with the rest: a page with an ``h1`` only elsewhere keeps that."""
    mains = _elements(body, "main")
    if not any(_line(main) for main in mains):
        return [body], ""
    names = ("main",) if any(_elements(main, "h1") for main in mains) else ("main", "h1")
    rest = (piece for piece in _visible(body, *names) if isinstance(piece, str))
    return _elements(body, *names), " ".join(" ".join(rest).split())


def _visible(element: Any, *names: str) -> Iterator[Any]:
    """The strings within an element that a reader sees, and, whole, the outermost elements of these names."""
    from bs4 import Tag
    from bs4.element import PreformattedString

    levels = [iter(element.children)]
    while levels:
        if len(levels) > MAX_DEPTH:
            raise UnreadableError(f"elements nested deeper than {MAX_DEPTH}")
        child = next(levels[-1], None)
        if child is None:
            levels.pop()
        elif isinstance(child, Tag):
            if _is_left_out(child):
                continue
            if child.name in names:
                yield child
            else:
                levels.append(iter(child.children))
        elif not isinstance(child, PreformattedString):  # comments, doctypes, CDATA
            yield child


def _elements(element: Any, *names: str) -> list[Any]:
    return [piece for piece in _visible(element, *names) if not isinstance(piece, str)]


def _line(element: Any) -> str:
    return " ".join(" ".join(_visible(element)).split())


def _heading(tag: Any) -> str:
    """One line, code between backticks; the mark of a link to the heading itself is left out."""
    pieces = (piece if isinstance(piece, str) else f"`{_line(piece)}`" for piece in _visible(tag, "code"))
    return re.sub(r" #$| ?¶$", "", " ".join(" ".join(pieces).split())) if _line(tag) else ""


def _is_left_out(tag: Any) -> bool:
    style = "".join(str(tag.get("style", "")).split()).lower()
    return tag.name in _SKIPPED or tag.has_attr("hidden") or "display:none" in style


class _Writer:
    """Collects lines while walking the tree."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.n_characters = 0

    def text(self) -> str:
        return re.sub(r"(?<![ \t])[ \t]*\n(?:[ \t]*\n)+", "\n\n", "".join(self.parts)).strip("\n")

    def add(self, text: str) -> None:
        self.n_characters += len(text)
        if self.n_characters > MAX_CHARACTERS:
            raise UnreadableError(f"more than {MAX_CHARACTERS} characters of text; split it")
        self.parts.append(text)

    def walk(self, node: object, depth: int = 0) -> None:
        from bs4 import Tag
        from bs4.element import NavigableString, PreformattedString

        if depth > MAX_DEPTH:
            raise UnreadableError(f"elements nested deeper than {MAX_DEPTH}")
        if isinstance(node, NavigableString):
            if not isinstance(node, PreformattedString):  # comments, doctypes, CDATA
                self._inline(str(node))
        elif isinstance(node, Tag):
            self._tag(node, depth)

    def _inline(self, text: str) -> None:
        text = re.sub(r"\s+", " ", text)
        at_line_start = not self.parts or self.parts[-1].endswith("\n")
        if at_line_start:
            text = text.lstrip()
            if re.match(r"#{1,6}\s", text):
                text = "\\" + text  # a paragraph that begins with # is no heading
        if text:
            self.add(text)

    def _tag(self, tag: Any, depth: int) -> None:
        if _is_left_out(tag):
            return
        if re.fullmatch(r"h[1-6]", tag.name):
            heading = _heading(tag)
            if heading:
                self.add(f"\n\n{'#' * int(tag.name[1])} {heading}\n\n")
        elif tag.name == "pre":
            code = "".join(_visible(tag)).strip("\n")
            fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", code) or [""]))
            self.add(f"\n\n{fence}\n{code}\n{fence}\n\n")
        elif tag.name == "br":
            self.add("\n")
        elif tag.name == "tr":
            cells = [_line(cell) for cell in _elements(tag, "td", "th")]
            self.add("\n" + " | ".join(cell for cell in cells if cell) + "\n")
        else:
            self._children(tag, depth)

    def _children(self, tag: Any, depth: int) -> None:
        edge = "\n" if tag.name in _LINE_BLOCKS else "\n\n" if tag.name in _BLOCKS else ""
        if edge:
            self.add(edge)
        if tag.name == "li":
            self.add("- ")
        for child in tag.children:
            self.walk(child, depth + 1)
        if edge:
            self.add(edge)
