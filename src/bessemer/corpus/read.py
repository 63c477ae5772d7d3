"""Files to documents. Everything read here is hostile: sizes are bounded, nothing outside of the source is opened.

Archives are never unpacked, URLs never fetched, symbolic links never followed out of the source.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from bessemer.config import ChunkingConfig
from bessemer.corpus.clean import clean_text
from bessemer.corpus.content import Content, UnreadableError
from bessemer.corpus.decode import decode_text
from bessemer.corpus.html import read_html
from bessemer.corpus.jsonl import read_records
from bessemer.corpus.markdown import clean_markdown, find_sections
from bessemer.corpus.outline import PLAIN_FORMATS
from bessemer.corpus.pdf import read_pdf
from bessemer.corpus.word import read_docx
from bessemer.errors import ConfigError, DataError, Problem
from bessemer.types import Document, Dropped, Filtered

STAGE = "read"
MAX_TITLE = 200

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def read_documents(source: str | Path, config: ChunkingConfig) -> Filtered[Document]:
    """Read a file or a folder of md, txt, html, pdf, docx and jsonl files, in the order of their paths.

    ``doc_id`` is the path relative to the source with ``/`` between its parts (``path#id`` for a JSONL record,
    ``path:line`` for one without an id). ``metadata["format"]`` is the format and ``metadata["title_from"]`` where the
    title came from. Whatever is not read is in ``dropped`` with its reason; pieces taken out of documents are there
    too, under the stage ``clean``.

    Raises DataError when the source does not exist, when a JSONL file is not as it should be (all its problems) or when
    nothing could be read, ConfigError when a reader's package is not installed.
    """
    root = Path(source)
    if not root.exists():
        raise DataError([Problem(str(source), None, "", "no such file or folder", "check --source")])
    documents: list[Document] = []
    dropped: list[Dropped] = []
    problems: list[Problem] = []
    for path, doc_id in _walk(root.resolve(), dropped):
        try:
            documents += _read_file(path, doc_id, config, dropped, problems)
        except UnreadableError as error:
            dropped.append(Dropped(doc_id, STAGE, str(error)))
    if problems:
        raise DataError(problems)
    if not documents:
        raise DataError(_nothing_read(str(source), dropped))
    return Filtered(tuple(documents), tuple(dropped))


def _nothing_read(source: str, dropped: list[Dropped]) -> list[Problem]:
    if not dropped:
        return [
            Problem(source, None, "", "holds no files", "point --source to md, txt, html, pdf, docx or jsonl files")
        ]
    return [Problem(item.id, None, "", item.reason, "nothing else in the source could be read") for item in dropped]


def _walk(root: Path, dropped: list[Dropped]) -> Iterator[tuple[Path, str]]:
    """Files to read, sorted by path, with their ids. What is passed over is appended to ``dropped``."""
    if root.is_file():
        yield root, _writable(root.name)
        return
    found: list[tuple[str, Path]] = []
    for folder, subfolders, names in os.walk(root, onerror=lambda error: _unlistable(error, root, dropped)):
        for name in list(subfolders):
            path = Path(folder, name)
            if path.is_symlink() or name.startswith("."):
                subfolders.remove(name)
                reason = "hidden folder" if name.startswith(".") else "symbolic link to a folder; not followed"
                dropped.append(Dropped(_doc_id(path, root), STAGE, reason))
        found += [(Path(folder, name).relative_to(root).as_posix(), Path(folder, name)) for name in names]
    for _, path in sorted(found):
        doc_id = _doc_id(path, root)
        reason = _refusal(path, root)
        if reason:
            dropped.append(Dropped(doc_id, STAGE, reason))
        else:
            yield path, doc_id


def _doc_id(path: Path, root: Path) -> str:
    return _writable(path.relative_to(root).as_posix())


def _writable(name: str) -> str:
    """Bytes of a file name that are no UTF-8, control characters and line separators are escaped."""
    return _UNWRITABLE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), name)


def _unlistable(error: OSError, root: Path, dropped: list[Dropped]) -> None:
    dropped.append(Dropped(_doc_id(Path(error.filename), root), STAGE, f"folder cannot be listed ({error.strerror})"))


def _refusal(path: Path, root: Path) -> str:
    """Why a file is not read, or an empty string."""
    if path.name.startswith("."):
        return "hidden file"
    if path.is_symlink():
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # a loop is a RuntimeError up to Python 3.12
            return "symbolic link to nothing"
        if not target.is_relative_to(root):
            return "symbolic link out of the source; not followed"
    if not stat.S_ISREG(path.stat().st_mode):
        return "not a regular file"
    if path.suffix.lower() not in READERS and path.suffix.lower() != ".jsonl":
        return f"unsupported type {path.suffix.lower() or '(no extension)'}"
    return ""


def _read_file(
    path: Path, doc_id: str, config: ChunkingConfig, dropped: list[Dropped], problems: list[Problem]
) -> list[Document]:
    suffix = path.suffix.lower()
    if suffix != ".jsonl" and suffix not in READERS:
        raise UnreadableError(f"unsupported type {suffix or '(no extension)'}")
    if path.stat().st_size > config.max_file_mib * 2**20:
        raise UnreadableError(f"larger than {config.max_file_mib} MiB; split it or raise chunking.max_file_mib")
    if suffix == ".jsonl":
        records = read_records(path, doc_id, problems)
        pairs = [(record_id, _document(record_id, content, path, "jsonl")) for record_id, content in records]
    else:
        content = _extract(path, READERS[suffix])
        dropped += [
            Dropped(doc_id, "clean", reason, text) for reason, texts in content.removed.items() for text in texts
        ]
        pairs = [(doc_id, _document(doc_id, content, path, FORMATS[suffix]))]
    documents = []
    for identity, document in pairs:
        if document.text.strip():
            documents.append(document)
        else:
            dropped.append(
                Dropped(
                    identity,
                    STAGE,
                    "no text in it (scanned pages need OCR first)" if suffix == ".pdf" else "no text in it",
                )
            )
    return documents


def _extract(path: Path, reader: Callable[[bytes], Content]) -> Content:
    """Run a reader; a fault of its library in one file must not end the run."""
    try:
        return reader(path.read_bytes())
    except (UnreadableError, ConfigError, ImportError, NameError):  # not the file's fault
        raise
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror or error})") from None
    except Exception as error:  # parsers of hostile files raise anything
        raise UnreadableError(f"damaged: {type(error).__name__}: {str(error)[:200]}") from None


def _document(doc_id: str, content: Content, path: Path, kind: str) -> Document:
    text = clean_text(content.text)
    title, title_from = " ".join(clean_text(content.title).split())[:MAX_TITLE], "metadata"
    sections = find_sections(text) if kind not in PLAIN_FORMATS else []
    first = next((section for section in sections if section.headings), None)
    # In front matter stands the title of the page; a first heading of a lower level is that of a section.
    if first and (not title or kind == "docx" or (kind == "md" and first.level == 1)):
        title, title_from = first.headings[0], "heading"
    if not title:
        title, title_from = (path.stem, "file name") if kind != "jsonl" else ("", "")
    metadata = {"format": kind, "title_from": title_from}
    return Document(doc_id, text, clean_text(title), _writable(str(path)), metadata)


def _read_markdown(data: bytes) -> Content:
    return clean_markdown(clean_text(decode_text(data)))


def _read_text(data: bytes) -> Content:
    return Content(decode_text(data))


FORMATS = {
    ".md": "md", ".markdown": "md", ".txt": "txt", ".html": "html", ".htm": "html", ".pdf": "pdf", ".docx": "docx",
}  # fmt: skip
_BY_FORMAT: dict[str, Callable[[bytes], Content]] = {
    "md": _read_markdown, "txt": _read_text, "html": read_html, "pdf": read_pdf, "docx": read_docx,
}  # fmt: skip
READERS = {suffix: _BY_FORMAT[kind] for suffix, kind in FORMATS.items()}
