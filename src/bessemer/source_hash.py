"""The hash of the code that a function runs: its module, every module of this package behind it, library versions."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
LIBRARIES = {"torch": "torch", "transformers": "transformers", "sentence_transformers": "sentence-transformers"}
"""Import name -> distribution whose version can change a result."""


def source_hash(code: Callable[..., Any] | type) -> str:
    """Sha256 over the source of ``code``'s module and all that it imports from this package, lazy imports included.

    The versions of bessemer and of those LIBRARIES that any of these modules imports count too. Data files beside
    the modules do not. Raises TypeError when there is no source file (a built-in, code typed into an interpreter).
    """
    try:
        file = inspect.getsourcefile(code)
    except TypeError:
        file = None
    if file is None or not Path(file).is_file():
        raise TypeError(f"{code!r} has no source file, so a change of its code could not be seen")
    return _closure_hash(Path(file).resolve())


def versions(libraries: set[str] | None = None) -> dict[str, str | None]:
    """Installed versions of bessemer and of ``libraries`` (import names; None = all LIBRARIES)."""
    wanted = LIBRARIES if libraries is None else libraries
    return {name: _version(name) for name in ("bessemer", *(LIBRARIES[name] for name in sorted(wanted)))}


@functools.cache
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _closure_hash(file: Path) -> str:
    seen, waiting = {file}, [file]
    libraries: set[str] = set()
    while waiting:
        own, heavy = _imports(waiting.pop())
        libraries |= heavy
        waiting += own - seen
        seen |= own
    digest = hashlib.sha256(repr(versions(libraries)).encode())
    for path in sorted(seen):
        name = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


@functools.cache
def _imports(file: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """Files of this package that ``file`` imports, and the LIBRARIES that it imports."""
    own: set[Path] = set()
    libraries: set[str] = set()
    for name in _imported_names(ast.parse(file.read_bytes()), file):
        parts = name.split(".")
        if parts[0] == PACKAGE.name:
            own |= _files(parts[1:])
        elif parts[0] in LIBRARIES:
            libraries.add(parts[0])
    return frozenset(own), frozenset(libraries)


def _imported_names(tree: ast.AST, file: Path) -> Iterator[str]:
    """Dotted names; ``from a import b`` gives ``a.b``, which may be a module or a name inside ``a``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                if not file.is_relative_to(PACKAGE):
                    continue
                package = file.parents[node.level - 1].relative_to(PACKAGE.parent)
                module = ".".join((*package.parts, *filter(None, [module])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _files(parts: list[str]) -> set[Path]:
    """The module at ``parts`` below the package; without one there, the module that holds the last part as a name."""
    for path in (PACKAGE.joinpath(*parts).with_suffix(".py"), PACKAGE.joinpath(*parts, "__init__.py")):
        if parts and path.is_file():
            return {path}
    return _files(parts[:-1]) if len(parts) > 1 else {PACKAGE / "__init__.py"}
