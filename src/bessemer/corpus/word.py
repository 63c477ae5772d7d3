"""DOCX to text with Markdown headings, through python-docx."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any

from bessemer.corpus.content import MAX_CHARACTERS, Content, UnreadableError
from bessemer.errors import ConfigError

MAX_UNPACKED = 256 * 2**20
MAX_RATIO = 200
MAX_PARTS = 10_000

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_PARAGRAPH, _TABLE, _ROW, _CELL, _BOX = (_W + name for name in ("p", "tbl", "tr", "tc", "txbxContent"))
_TEXT = tuple(_W + name for name in ("t", "tab", "ptab", "br", "cr", "noBreakHyphen"))
_NOTES = {_W + f"{kind}Reference": kind for kind in ("footnote", "endnote")}
# Tab stops, text that was deleted or moved away, readings above characters, and what only old programs show instead.
_LEFT_OUT = {
    *(_W + name for name in ("pPr", "del", "moveFrom", "rt", "txbxContent")),
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
}


def read_docx(data: bytes) -> Content:
    """Paragraphs and tables in order; heading styles as ``#`` lines, list items as ``- ``, table rows with ``|``.

    Tracked changes count as accepted. Text boxes follow the paragraph that holds them, tables in a cell its row, and
    footnotes and endnotes the paragraph or the table that refers to them; comments are not read. Word's table of
    contents and the placeholders of empty content controls are taken out. Raises UnreadableError for something that is
    no DOCX or would unpack to more than the bounds above, ConfigError when python-docx is not installed. python-docx's
    XML parser expands no entities and opens no other file.
    """
    try:
        import docx
    except ImportError:
        raise ConfigError('reading DOCX needs python-docx: pip install "bessemer[documents]"') from None
    _check_archive(data)
    document = docx.Document(io.BytesIO(data))
    removed = {
        "table of contents": _blank(document, "w:docPartObj/w:docPartGallery[@w:val='Table of Contents']"),
        "placeholder of an empty content control": _blank(document, "w:showingPlcHdr"),
    }
    blocks = [text for text in _bounded(_texts(document)) if text.strip()]
    title = document.core_properties.title or ""
    return Content(_lay_out(blocks), "" if title.strip().lower() == "word document" else title, removed)


def _check_archive(data: bytes) -> None:
    """Refuse archives that would unpack to far more than they are, before anything is unpacked."""
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise UnreadableError("encrypted DOCX or an old DOC file; save it as DOCX without a password")
    try:
        parts = zipfile.ZipFile(io.BytesIO(data)).infolist()
    except zipfile.BadZipFile:
        raise UnreadableError("no DOCX file (not a zip archive)") from None
    unpacked = sum(part.file_size for part in parts)
    packed = max(1, sum(part.compress_size for part in parts))
    if unpacked > MAX_UNPACKED or len(parts) > MAX_PARTS:
        raise UnreadableError(f"unpacks to more than {MAX_UNPACKED // 2**20} MiB or {MAX_PARTS} parts; split it")
    if unpacked > 2**20 and unpacked / packed > MAX_RATIO:
        raise UnreadableError(f"compressed more than {MAX_RATIO} times: a zip bomb, or damaged")


def _blank(document: Any, sign: str) -> tuple[str, ...]:
    """Empty the content controls that have this sign among their properties; what stood in each."""
    removed = []
    for control in document.element.body.xpath(f".//w:sdt[w:sdtPr/{sign}]"):
        pieces = list(control.iter(_W + "t"))
        removed.append(" ".join(piece.text or "" for piece in pieces))
        for piece in pieces:
            piece.text = ""
    return tuple(text for text in removed if text.strip())


def _bounded(texts: Iterable[str]) -> list[str]:
    """The texts, refused as soon as they hold more characters than a file may: merged cells repeat theirs."""
    kept: list[str] = []
    n_characters = 0
    for text in texts:
        n_characters += len(text)
        if n_characters > MAX_CHARACTERS:
            raise UnreadableError(f"more than {MAX_CHARACTERS} characters of text; split it")
        kept.append(text)
    return kept


def _find(element: Any, *tags: str) -> Iterator[Any]:
    """The outermost elements with one of these tags, in order, within insertions, content controls, links, fields."""
    for child in element.iterchildren("*"):
        if child.tag in tags:
            yield child
        elif child.tag not in _LEFT_OUT:
            yield from _find(child, *tags)


def _blocks(element: Any) -> Iterator[Any]:
    """Paragraphs and tables in order."""
    for block in _find(element, _PARAGRAPH, _TABLE):
        yield block
        if block.tag == _PARAGRAPH:
            for box in _find(block, _BOX):
                yield from _blocks(box)


def _texts(document: Any) -> Iterator[str]:
    """Of the blocks, each with the notes that it refers to behind it."""
    notes = _notes(document)
    for block in _blocks(document.element.body):
        yield "\n".join(_bounded(_rows(block))) if block.tag == _TABLE else _paragraph(block, document)
        for reference in _find(block, *_NOTES):
            yield _without_heading(notes.get((_NOTES[reference.tag], reference.get(_W + "id")), ""))


def _notes(document: Any) -> dict[tuple[str, str], str]:
    """Footnotes and endnotes, by kind and id. python-docx leaves their parts as they are."""
    from docx.oxml import parse_xml

    relations = [relation for relation in document.part.rels.values() if not relation.is_external]
    parts = {relation.reltype.rpartition("/")[2]: relation.target_part for relation in relations}
    return {
        (kind, note.get(_W + "id")): " ".join(" ".join(map(_text, _find(note, _PARAGRAPH))).split())
        for kind in _NOTES.values()
        if f"{kind}s" in parts
        for note in parse_xml(parts[f"{kind}s"].blob).iterchildren(_W + kind)
    }


def _without_heading(text: str) -> str:
    """A line that would read as a Markdown heading and is none."""
    return "\\" + text if re.match(r"#{1,6}\s", text) else text


def _text(paragraph: Any) -> str:
    return "".join(str(piece) for piece in _find(paragraph, *_TEXT)).strip()


def _paragraph(element: Any, document: Any) -> str:
    from docx.text.paragraph import Paragraph

    paragraph, text = Paragraph(element, document), _text(element)
    style = (paragraph.style.name or "") if paragraph.style is not None else ""
    match = re.fullmatch(r"(?:Heading|heading|标题) ?([1-6])", style)
    if style == "Title" and text:
        return "# " + " ".join(text.split())
    if match and text:
        return "#" * int(match[1]) + " " + " ".join(text.split())
    if style.startswith("List") and text:
        return "- " + text
    return _without_heading(text)


def _rows(table: Any) -> Iterator[str]:
    """A line per row. A cell over several rows is in each of their lines; a table in a cell follows its row."""
    above: dict[int, str] = {}  # column -> text of the last cell that began there
    for row in _find(table, _ROW):
        column = sum(int(number) for number in row.xpath("./w:trPr/w:gridBefore/@w:val"))
        cells: list[str] = []
        inner: list[Any] = []
        for cell in _find(row, _CELL):
            if cell.vMerge != "continue":
                blocks = list(_blocks(cell))
                inner += [block for block in blocks if block.tag == _TABLE]
                texts = (_text(block) for block in blocks if block.tag == _PARAGRAPH)
                above[column] = " ".join(" ".join(texts).split())
            cells.append(above.get(column, ""))
            column += cell.grid_span
        line = " | ".join(cell for cell in cells if cell)
        if line:
            yield line
        for nested in inner:
            yield from _rows(nested)


def _lay_out(blocks: list[str]) -> str:
    """A blank line between blocks, none between the items of one list."""
    text = ""
    for index, block in enumerate(blocks):
        in_list = index > 0 and block.startswith("- ") and blocks[index - 1].startswith("- ")
        text += ("" if index == 0 else "\n" if in_list else "\n\n") + block
    return text
