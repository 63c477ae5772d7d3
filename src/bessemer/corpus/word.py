"""DOCX to text with Markdown headings, through python-docx."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

from bessemer.corpus.content import MAX_CHARACTERS, Content, UnreadableError
from bessemer.errors import ConfigError

MAX_UNPACKED = 256 * 2**20
MAX_RATIO = 200
MAX_PARTS = 10_000


def read_docx(data: bytes) -> Content:
    """Paragraphs and tables in order; heading styles as ``#`` lines, list items as ``- ``, table rows with ``|``.

    Raises UnreadableError for something that is no DOCX or would unpack to more than the bounds above, ConfigError
    when python-docx is not installed. python-docx's XML parser expands no entities and opens no other file.
    """
    try:
        import docx
        from docx.table import Table
    except ImportError:
        raise ConfigError('reading DOCX needs python-docx: pip install "bessemer[documents]"') from None
    _check_archive(data)
    document = docx.Document(io.BytesIO(data))
    blocks: list[str] = []
    n_characters = 0
    for block in document.iter_inner_content():
        text = _table(block) if isinstance(block, Table) else _paragraph(block)
        n_characters += len(text)
        if n_characters > MAX_CHARACTERS:
            raise UnreadableError(f"more than {MAX_CHARACTERS} characters of text; split it")
        if text.strip():
            blocks.append(text)
    title = document.core_properties.title or ""
    return Content(_lay_out(blocks), "" if title.strip().lower() == "word document" else title)


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


def _paragraph(paragraph: Any) -> str:
    text: str = paragraph.text.strip()
    style = (paragraph.style.name or "") if paragraph.style is not None else ""
    match = re.fullmatch(r"(?:Heading|heading|标题) ?([1-6])", style)
    if style == "Title" and text:
        return "# " + " ".join(text.split())
    if match and text:
        return "#" * int(match[1]) + " " + " ".join(text.split())
    if style.startswith("List") and text:
        return "- " + text
    return "\\" + text if re.match(r"#{1,6}\s", text) else text


def _table(table: Any) -> str:
    rows = []
    for row in table.rows:
        cells: list[str] = []
        previous = None
        for cell in row.cells:  # a merged cell comes once per column it spans
            if cell._tc is not previous:
                cells.append(" ".join(cell.text.split()))
            previous = cell._tc
        rows.append(" | ".join(cell for cell in cells if cell))
    return "\n".join(row for row in rows if row)


def _lay_out(blocks: list[str]) -> str:
    """A blank line between blocks, none between the items of one list."""
    text = ""
    for index, block in enumerate(blocks):
        in_list = index > 0 and block.startswith("- ") and blocks[index - 1].startswith("- ")
        text += ("" if index == 0 else "\n" if in_list else "\n\n") + block
    return text
