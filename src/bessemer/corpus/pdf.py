"""PDF to text through pypdf. Pages become paragraphs; headers and footers that repeat are taken out and counted."""

from __future__ import annotations

import io
import logging
import re

from bessemer.corpus.clean import clean_text, join_lines, strip_page_furniture
from bessemer.corpus.content import MAX_CHARACTERS, Content, UnreadableError
from bessemer.errors import ConfigError

MAX_PAGES = 10_000
MAX_PAGE_CHARACTERS = 1_000_000

UNMAPPED = "\ufffd"
"""Stands for a glyph whose letter the file does not say (often a ligature)."""


def read_pdf(data: bytes) -> Content:
    """Text of all pages in order, a blank line between them.

    pypdf itself bounds what a compressed stream may grow to (75 MB); pages and characters are bounded here. Raises
    UnreadableError for a file that needs a password or breaks a bound, ConfigError when pypdf is not installed.
    """
    try:
        import pypdf
        from pypdf.errors import DependencyError
    except ImportError:
        raise ConfigError('reading PDF needs pypdf: pip install "bessemer[documents]"') from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its warnings are about the file, once per object
    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted:
        try:
            opened = reader.decrypt("")  # many files only restrict printing and open without a password
        except DependencyError:
            raise UnreadableError("encrypted PDF; install `cryptography` or remove the encryption") from None
        if not opened:
            raise UnreadableError("encrypted PDF; remove the password")
    if len(reader.pages) > MAX_PAGES:
        raise UnreadableError(f"more than {MAX_PAGES} pages; split it")
    pages, n_characters = [], 0
    for number, page in enumerate(reader.pages, 1):
        text = page.extract_text()
        n_characters += len(text)
        if len(text) > MAX_PAGE_CHARACTERS or n_characters > MAX_CHARACTERS:
            raise UnreadableError(f"page {number}: more text than a page can hold; split or repair the file")
        pages.append(clean_text(text.replace("\x00", UNMAPPED)))
    pages, furniture = strip_page_furniture(pages)
    removed = {"repeated page header or footer": furniture} if furniture else {}
    n_unmapped = sum(page.count(UNMAPPED) for page in pages)
    if n_unmapped:
        removed["letters that the PDF does not name, shown as U+FFFD"] = (f"{n_unmapped} letters",)
    title = str(reader.metadata.title or "") if reader.metadata else ""
    text = "\n\n".join(filter(None, (join_lines(page).strip() for page in pages)))
    return Content(text, title if _is_title(title) else "", removed)


def _is_title(title: str) -> bool:
    """Whether the metadata's title was written by a person: words, not a file name or a filing number."""
    if re.search(r"\.(?:docx?|pdf|indd|xlsx?|pptx?|tex|dvi)$|^untitled|^microsoft", title.strip(), re.IGNORECASE):
        return False
    return len(re.findall(r"[^\W\d_]{2,}", title)) >= 2 or bool(re.search("[\u4e00-\u9fff]{3,}", title))
