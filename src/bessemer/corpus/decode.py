"""Bytes to text, without guessing: a wrong guess would be a silent change of the documents."""

from __future__ import annotations

import codecs

from bessemer.corpus.content import UnreadableError

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# Windows-1252 for the control characters of ISO-8859-1; five bytes have no character there, either.
_WINDOWS = {byte: bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(0x80, 0xA0)}


def decode_text(data: bytes, declared: str | None = None) -> str:
    """Decode by byte-order mark, else as UTF-8, else in the encoding that the file itself declares (HTML).

    Raises UnreadableError naming the first byte that does not fit.
    """
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        text = _declared(data, declared)
        if text is not None:
            return text
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise UnreadableError(f"not {name} at byte {error.start}{_hint(data)}; convert it to UTF-8") from None


def _declared(data: bytes, declared: str | None) -> str | None:
    if declared is None:
        return None
    try:
        name = codecs.lookup(declared).name
        if name in ("iso8859-1", "ascii"):  # as browsers do: of most such pages, the quotes and dashes are Windows'
            return data.decode("latin-1").translate(_WINDOWS)
        return data.decode("gb18030" if name in ("gb2312", "gbk") else name)
    except (UnicodeDecodeError, LookupError):
        return None


def _hint(data: bytes) -> str:
    """What the encoding may be; for the message only."""
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return ""
    n_han = sum("\u4e00" <= character <= "\u9fff" for character in text)
    return " (perhaps GB18030)" if 4 * n_han > len(text) else ""
