"""Hugging Face datasets by a column mapping: a hub name, a Parquet or Arrow file, or a folder of them.

Rows are streamed; nothing of a dataset is executed. Own splits of the dataset are kept (``validation`` is dev); a
single one is divided, unless it is called dev or test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bessemer.errors import ConfigError, DataError, Problem, ServiceError
from bessemer.formats.columns import Columns, infer_columns, map_row
from bessemer.formats.lines import Fields
from bessemer.formats.loaded import Loaded, Notes
from bessemer.formats.rows import Row, collection_from_rows

SPLIT_NAMES = {"validation": "dev", "valid": "dev", "val": "dev"}


def read_hf(
    source: str | Path,
    columns: Columns | None = None,
    *,
    subset: str | None = None,
    seed: int = 42,
    require: Sequence[str] = (),
) -> Loaded:
    """Read ``source`` (a local path, else a hub name) by ``columns``, by default those of sentence-transformers.

    Lists explode: one question with three contexts is one query with three positives. ``subset`` is the
    configuration of a hub dataset. Problems carry the row number, from 1, within the split. Raises DataError,
    ConfigError for a mapping that is needed and not given, ServiceError when the hub cannot be reached.
    """
    problems: list[Problem] = []
    parts = _open(source, subset)
    splits = {name: SPLIT_NAMES.get(name, name) for name in parts}
    has_own = len(parts) > 1 or not {"dev", "test"}.isdisjoint(splits.values())
    rows: list[Row] = []
    for name, part in parts.items():
        file = f"{source}[{name}]" if has_own else str(source)
        rows += _rows(_streamed(part, source), file, columns, splits[name] if has_own else "", problems)
    return collection_from_rows(rows, str(source), problems, Notes(), seed=seed, require=require)


def _rows(
    part: Iterable[Mapping[str, Any]], file: str, columns: Columns | None, split: str, problems: list[Problem]
) -> Iterator[Row]:
    for number, values in enumerate(part, start=1):
        columns = columns or infer_columns(values)
        if columns is None:
            known = ", ".join(values)
            raise ConfigError(f"{file}: which of the columns {known} hold query and positives? Give a column mapping")
        row = map_row(Fields(file, number, values, problems), columns, split)
        if row is not None:
            yield row


def _open(source: str | Path, subset: str | None) -> Mapping[str, Iterable[Mapping[str, Any]]]:
    """The splits of ``source``, each an iterable of rows."""
    import datasets  # heavy, and needed by this reader alone

    path = Path(source)
    with _faults_told(source):
        if path.is_file() and path.suffix == ".arrow":
            return {"train": datasets.Dataset.from_file(str(path))}
        if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
            saved = datasets.load_from_disk(str(path))
            return dict(saved) if isinstance(saved, dict) else {"train": saved}
        if path.exists():
            return dict(datasets.load_dataset("parquet", data_files=_data_files(path), streaming=True))
        return dict(datasets.load_dataset(str(source), subset, streaming=True))


def _streamed(part: Iterable[Mapping[str, Any]], source: str | Path) -> Iterator[Mapping[str, Any]]:
    """What opens well may break off in the middle: a corrupt page, a lost connection."""
    with _faults_told(source):
        yield from part


@contextmanager
def _faults_told(source: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:  # the hub's "no such dataset" is one as well
        raise DataError([_unreadable(source, error, "check the path or name")]) from error
    except (ConnectionError, TimeoutError) as error:
        raise ServiceError(f"{source}: the Hugging Face hub cannot be reached ({error}); give a local file") from error
    except (ValueError, OSError) as error:
        raise DataError(
            [_unreadable(source, error, "give whole Parquet or Arrow files, and the subset if there are several")]
        ) from error


def _unreadable(source: str | Path, error: Exception, fix: str) -> Problem:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return Problem(str(source), None, "", f"cannot be read as a dataset ({reason})", fix)


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder and of the folders right in it, as the hub lays them out."""
    return sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")])


def _data_files(path: Path) -> dict[str, list[str]]:
    """Files by split; ``train-00000-of-00002.parquet``, the hub's own naming, belongs to train."""
    if path.is_file():
        return {"train": [str(path)]}
    files: dict[str, list[str]] = {}
    for file in parquet_files(path):
        files.setdefault(file.stem.split("-")[0], []).append(str(file))
    if not files:
        raise FileNotFoundError("no .parquet file in it")
    return files
