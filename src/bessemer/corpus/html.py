"""HTML to text with Markdown headings. Built on the standard parser: no network, no entities, no external files."""

from __future__ import annotations

import re

from bessemer.corpus.content import MAX_CHARACTERS, Content, UnreadableError
from bessemer.corpus.decode import decode_text
from bessemer.errors import ConfigError

MAX_DEPTH = 400  # nesting of elements; a real page stays far below

_SKIPPED = {
    "script", "style", "noscript", "template", "head", "nav", "svg", "math", "iframe", "object", "button", "form",
    "select", "input", "textarea", "canvas", "audio", "video",
}  # fmt: skip
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "footer", "header", "hr", "html", "li", "main", "ol", "p", "section", "summary", "table", "ul",
}  # fmt: skip
_LINE_BLOCKS = {"li", "dt", "dd", "summary", "figcaption"}  # end a line, not a paragraph
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?\s*([\w-]{2,30})", re.IGNORECASE)


def read_html(data: bytes) -> Content:
    """Visible text; ``<h1>``-``<h6>`` as ``#`` lines, ``<pre>`` as code fences, table rows as lines with ``|``.

    Scripts, styles, navigation, forms and hidden elements are left out. Raises UnreadableError for bytes that are not
    in the declared encoding, ConfigError when beautifulsoup4 is not installed.
    """
    try:
        from bs4 import BeautifulSoup
    except ImportError:
        raise ConfigError('reading HTML needs beautifulsoup4: pip install "bessemer[documents]"') from None
    declared = _META_CHARSET.search(data[:2048])
    soup = BeautifulSoup(decode_text(data, declared[1].decode("ascii") if declared else None), "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    writer = _Writer()
    writer.walk(soup.find("main") or soup.body or soup)
    return Content(writer.text(), title)


class _Writer:
    """Collects lines while walking the tree."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.n_characters = 0

    def text(self) -> str:
        return re.sub(r"[ \t]*\n[ \t]*\n\s*\n*", "\n\n", "".join(self.parts)).strip("\n")

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

    def _tag(self, tag: object, depth: int) -> None:
        from bs4 import Tag

        assert isinstance(tag, Tag)
        name = (tag.name or "").lower()
        if name in _SKIPPED or tag.has_attr("hidden") or "display:none" in str(tag.get("style", "")).replace(" ", ""):
            return
        if re.fullmatch(r"h[1-6]", name):
            heading = " ".join(tag.get_text(" ", strip=True).rstrip("¶#").split())
            if heading:
                self.add(f"\n\n{'#' * int(name[1])} {heading}\n\n")
        elif name == "pre":
            fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", tag.get_text()) or [""]))
            self.add(f"\n\n{fence}\n{tag.get_text().strip(chr(10))}\n{fence}\n\n")
        elif name == "br":
            self.add("\n")
        elif name == "tr":
            cells = [
                " ".join(cell.get_text(" ", strip=True).split()) for cell in tag.find_all(["td", "th"], recursive=False)
            ]
            self.add("\n" + " | ".join(cell for cell in cells if cell) + "\n")
        else:
            self._children(tag, name, depth)

    def _children(self, tag: object, name: str, depth: int) -> None:
        from bs4 import Tag

        assert isinstance(tag, Tag)
        edge = "\n" if name in _LINE_BLOCKS else "\n\n" if name in _BLOCKS else ""
        if edge:
            self.add(edge)
        if name == "li":
            self.add("- ")
        for child in tag.children:
            self.walk(child, depth + 1)
        if edge:
            self.add(edge)
