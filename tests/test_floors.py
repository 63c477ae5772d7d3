"""The floors of the package: imports point down only. Read from the source, so lazy imports count as well."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bessemer

PACKAGE = Path(bessemer.__file__).parent

# A unit is a module or a package directly below `bessemer`. Units of one floor do not import each other, but for
# SHARED ones, which all of their own floor may use.
FLOORS = {
    1: [
        "types",
        "errors",
        "text",
        "printing",
        "draws",
        "shingles",
        "components",
        "durable",
        "hub",
        "processes",
        "sqlite_file",
    ],
    2: ["config", "encoders", "llm", "measures", "formats"],
    3: ["search", "workspace"],
    4: ["corpus", "questions", "negatives", "training", "evaluation", "answers", "serving", "monitoring", "clients"],
    5: ["recipes"],
    6: ["cli", "__init__"],
    7: ["__main__"],
}
SHARED = {"types", "errors", "text", "config"}
# Files of one unit.
PARTS = dict.fromkeys(("artifacts", "content_hash", "score_cache", "source_hash"), "workspace") | {"command": "cli"}
FLOOR = {unit: floor for floor, units in FLOORS.items() for unit in units}

HEAVY = {"torch", "transformers", "sentence_transformers", "accelerate", "peft"}
MAY_BE_HEAVY = ("encoders.", "training.", "llm.local", "search.approximate", "search.max_sim", "search.rerank")
MAX_LINES = 400

FILES = sorted(path for path in PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())


def module_of(file: Path) -> str:
    """Dotted name below the package: ``search.bm25``; a package is ``search.__init__``."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {module_of(file): file for file in FILES}


def imported(file: Path, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(absolute dotted name, line) of every import; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ("bessemer", *file.parents[node.level - 1].relative_to(PACKAGE).parts)
                base = ".".join((*package, base)) if base else ".".join(package)
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def own_module(name: str) -> str | None:
    """The module of this package that ``name`` is, or is a name in; None for other packages."""
    parts = name.split(".")
    if parts[0] != "bessemer":
        return None
    for end in range(len(parts), 0, -1):
        inside = ".".join(parts[1:end])
        for module in (inside, f"{inside}.__init__" if inside else "__init__"):
            if module in MODULES:
                return module
    return None


def unit_of(module: str) -> str:
    unit = module.split(".")[0]
    return PARTS.get(unit, unit)


def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def without_type_checking(tree: ast.Module) -> ast.Module:
    class Strip(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return ast.fix_missing_locations(Strip().visit(tree))


def test_every_unit_has_a_floor() -> None:
    unknown = {unit_of(module) for module in MODULES} - FLOOR.keys()
    assert not unknown, f"put {sorted(unknown)} on a floor: into FLOORS here and into the table of the design"


def upward(file: Path, tree: ast.AST) -> list[str]:
    unit = unit_of(module_of(file))
    faults = []
    for name, line in imported(file, tree):
        target = own_module(name)
        if target is None or name == "bessemer.__version__":
            continue
        other = unit_of(target)
        down = FLOOR[other] < FLOOR[unit]
        beside = FLOOR[other] == FLOOR[unit] and other in SHARED
        if other != unit and not down and not beside:
            faults.append(f"{file}:{line}: {unit} (floor {FLOOR[unit]}) imports {name} (floor {FLOOR[other]})")
    return faults


@each_file
def test_imports_point_down(file: Path) -> None:
    faults = upward(file, parse(file))
    assert not faults, "\n".join(faults) + "\nlet a recipe join them, or hand the thing in as a parameter"


@pytest.mark.parametrize(
    ("file", "source", "n_faults"),
    [
        ("corpus/x.py", "from bessemer.negatives.mine import mine", 1),
        ("corpus/x.py", "def f():\n  import bessemer.recipes", 1),
        ("corpus/x.py", "from bessemer import cli, config", 1),
        ("corpus/x.py", "from bessemer import load_collection", 1),
        ("corpus/x.py", "from bessemer.corpus.read import x; from bessemer.workspace import y; import os", 0),
        ("search/x.py", "from bessemer.workspace import Workspace", 1),
        ("encoders/x.py", "from bessemer.formats import beir", 1),
        ("encoders/x.py", "from bessemer.config import Config", 0),
        ("artifacts.py", "from bessemer.content_hash import content_hash; from bessemer import types", 0),
        ("errors.py", "from bessemer.config import Config", 1),
    ],
)
def test_imports_that_point_up_are_seen(file: str, source: str, n_faults: int) -> None:
    assert len(upward(PACKAGE / file, ast.parse(source))) == n_faults


def test_no_import_cycles() -> None:
    edges = {
        module: {own_module(name) for name, _ in imported(file, without_type_checking(parse(file)))} - {None, module}
        for module, file in MODULES.items()
        if module != "__init__"  # re-exports lazily what stands above
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in sorted(edges.get(module, ())):
                visit(target, (*path, module))
            done.add(module)

    for module in edges:
        visit(module, ())


@each_file
def test_heavy_libraries_stay_in_their_places(file: Path) -> None:
    module = module_of(file)
    found = {name.split(".")[0] for name, _ in imported(file, parse(file))} & HEAVY
    assert not found or f"{module}.".startswith(MAY_BE_HEAVY), f"{module} imports {found}; {MAY_BE_HEAVY} may"


@pytest.mark.parametrize("module", [module for module in ("types", "errors") if module in MODULES])
def test_nouns_and_errors_need_the_standard_library_only(module: str) -> None:
    file = MODULES[module]
    names = {name.split(".")[0] for name, _ in imported(file, parse(file))}
    assert names <= sys.stdlib_module_names


@each_file
def test_files_are_small(file: Path) -> None:
    n_lines = len(file.read_text(encoding="utf-8").splitlines())
    assert n_lines < MAX_LINES, f"{file} has {n_lines} lines: split it"


@pytest.mark.parametrize("module", ["", ".cli"])
def test_import_is_light(module: str) -> None:
    slow = "torch", "transformers", "sentence_transformers", "datasets", "pandas", "sklearn", "scipy"
    code = f"import sys, bessemer{module}; print([name for name in {slow} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
}  # fmt: skip
REQUIRED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
    "numpy.save": ("allow_pickle", False),
}


def unsafe(file: Path, tree: ast.AST) -> list[str]:
    faults = [
        f"line {line}: imports {name}" for name, line in imported(file, tree) if name.split(".")[0] in UNSAFE_MODULES
    ]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = ast.unparse(call.func)
        given = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
        if function in UNSAFE_CALLS or given.get("shell") is True:
            faults.append(f"line {call.lineno}: {ast.unparse(call)}")
        if function in REQUIRED and given.get(REQUIRED[function][0]) is not REQUIRED[function][1]:
            faults.append(f"line {call.lineno}: {function} without {REQUIRED[function][0]}={REQUIRED[function][1]}")
    return faults


@each_file
def test_nothing_that_runs_foreign_code(file: Path) -> None:
    assert unsafe(file, parse(file)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "yaml.load(file)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "np.load(file, allow_pickle=flag)",
        "subprocess.run('ls', shell=True)",
    ],
)
def test_unsafe_code_is_seen(source: str) -> None:
    assert len(unsafe(PACKAGE / "x.py", ast.parse(source))) == 1


def test_safe_code_passes() -> None:
    source = "model.eval(); re.compile('a'); torch.load(f, weights_only=True); np.load(f, allow_pickle=False)"
    assert unsafe(PACKAGE / "x.py", ast.parse(source)) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def f():\n  from bessemer.negatives import mine", "bessemer.negatives.mine"),
        ("from . import neighbour", "bessemer.corpus.neighbour"),
        ("from ..negatives.mine import x", "bessemer.negatives.mine.x"),
        ("import bessemer.recipes as r", "bessemer.recipes"),
    ],
)
def test_all_kinds_of_imports_are_seen(source: str, name: str) -> None:
    assert [found for found, _ in imported(PACKAGE / "corpus" / "x.py", ast.parse(source))] == [name]
