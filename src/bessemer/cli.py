"""The command line: one verb per recipe. It reads flags, prints, and gives exit codes; everything else is the recipes'.

Recipes are imported inside the verbs, so that ``bessemer --help`` loads no torch.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bessemer.config import Config, Section, load_config
from bessemer.errors import BessemerError, ConfigError
from bessemer.printing import printable

app = typer.Typer(
    name="bessemer",
    help="From your documents to a retriever that finds them, with proof.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

COMMON = ("workspace", "seed", "device")
PLANNED = ("adapt",)  # verbs of several steps, which say themselves what a dry run finds
TRAINING = ("model", "out", "finetune.*")


@dataclass(frozen=True)
class Call:
    """What every verb is told: the configuration, and how to answer."""

    config: Config
    json: str | None
    quiet: bool
    dry_run: bool

    def claim(self) -> None:
        """Raises ConfigError where the answer cannot be written: before the work, not after it."""
        from bessemer.recipes.output import claim_file

        if self.json not in (None, "-"):
            claim_file(str(self.json), "--json")

    def say(self, text: str) -> None:
        """To the person; on stderr where stdout is for JSON."""
        if not self.quiet:
            print(printable(text), file=sys.stderr if self.json == "-" else sys.stdout)

    def answer(self, result: Any, text: str) -> None:
        """The result: as text for a person, as JSON where --json says."""
        from bessemer.recipes.output import to_json, write_json

        if self.json == "-":
            print(to_json(result))
        else:
            self.say(text)
            if self.json:
                write_json(result, Path(self.json))


def verb(name: str, *keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command. ``keys`` are configuration keys that become options, ``finetune.*`` a whole section; the
    function's own further parameters become options or arguments as Typer reads them."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        fields = {key.rsplit(".", 1)[-1]: key for pattern in (*keys, *COMMON) for key in _expanded(pattern)}
        own = [p for n, p in inspect.signature(function, eval_str=True).parameters.items() if n != "call"]

        def command(**given: Any) -> None:
            flags = {key: given.pop(flag) for flag, key in fields.items()}
            config_file, answer_to = given.pop("config"), given.pop("json")
            quiet, dry_run = given.pop("quiet"), given.pop("dry_run")
            with _exit_codes():
                _set_up_logging(quiet)
                call = Call(load_config(config_file, flags), answer_to, quiet, dry_run)
                call.claim()
                if dry_run and name not in PLANNED:
                    settings = {key: value for key, value in {**flags, **given}.items() if value is not None}
                    call.answer(settings, f"would run {name} with {settings}; nothing was written")
                else:
                    function(call, **given)

        options = [_option(flag, key) for flag, key in fields.items()]
        parameters = [*own, *options, *_ANSWERING]
        command.__doc__ = function.__doc__
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            sorted(parameters, key=lambda p: p.default is not inspect.Parameter.empty)
        )
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name)(command)
        return function

    return register


def _expanded(pattern: str) -> list[str]:
    if not pattern.endswith(".*"):
        return [pattern]
    section = pattern.removesuffix(".*")
    return [f"{section}.{field}" for field in _section(section).model_fields]


def _section(name: str) -> type[Section]:
    return typing.cast(type[Section], Config.model_fields[name].annotation)


def _option(flag: str, key: str) -> inspect.Parameter:
    """An option for a configuration key; its default, None, means: as the file or the built-in default says."""
    owner = _section(key.split(".")[0]) if "." in key else Config
    field = owner.model_fields[key.rsplit(".", 1)[-1]]
    kind: Any = field.annotation
    if isinstance(kind, types.UnionType):
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        kind = str
    default = "" if field.default is None else f" [{field.default}]"
    name = f"--{flag.replace('_', '-')}"
    names = (f"{name}/--no-{flag.replace('_', '-')}",) if kind is bool else (name,)
    annotation = Annotated[kind | None, typer.Option(*names, help=f"{field.description or flag}{default}")]
    return inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _parameter(name: str, kind: Any, default: Any, help_text: str) -> inspect.Parameter:
    annotation = Annotated[kind, typer.Option(f"--{name.replace('_', '-')}", help=help_text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_ANSWERING = [
    _parameter("config", Path | None, None, "YAML file; flags win over it"),
    _parameter("json", str | None, None, "write the result as JSON; - for stdout, then nothing else is printed there"),
    _parameter("quiet", bool, False, "print errors only"),
    _parameter("dry_run", bool, False, "say what would run and what is cached, and stop"),
]


class _exit_codes:
    """Errors that a user can act on become plain lines and an exit code."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, BessemerError):
            _fail(str(error), error.exit_code)
        if isinstance(error, KeyboardInterrupt):
            _fail("interrupted; run the same command again to go on from the last finished step", 130)
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1)


def _fail(message: str, code: int) -> NoReturn:
    print("\n".join(f"error: {printable(line)}" for line in message.splitlines()), file=sys.stderr)
    raise typer.Exit(code)


def _set_up_logging(quiet: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("%(message)s"))
    log = logging.getLogger("bessemer")
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.ERROR if quiet else logging.INFO)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its own notes on every save and load say nothing here


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = "warning: " if record.levelno == logging.WARNING else ""
        return prefix + printable(super().format(record))


@verb("adapt", "source", "data", "queries", *TRAINING, "final_fit", "negatives.strategy", "evaluation.general")
def adapt(call: Call) -> None:
    """Documents or judged data to a tuned model, an index, and a report that says whether it is better."""
    from bessemer.recipes.adapt import adapt as run
    from bessemer.recipes.adapt import plan
    from bessemer.recipes.plan import plan_summary
    from bessemer.recipes.summary import report_summary

    if call.dry_run:
        planned = plan(call.config)
        call.answer(planned, plan_summary(planned))
        return
    report = run(call.config)
    call.answer(report, report_summary(report, call.config.out))


@verb("demo", *TRAINING)
def demo(call: Call) -> None:
    """The main job on the docstrings of the installed scientific packages: offline, in minutes on two cores."""
    from bessemer.recipes.demo import demo as run
    from bessemer.recipes.summary import report_summary

    report = run(call.config)
    call.answer(report, report_summary(report, call.config.out))


@verb("init")
def init(call: Call, folder: Annotated[str, typer.Argument(metavar="DIR")] = ".") -> None:
    """Write a commented bessemer.yaml with every key and its default."""
    from bessemer.recipes.init import init as run

    path = run(folder)
    call.answer({"path": str(path)}, f"wrote {path}")


@verb("validate", "data", "source", "model", "finetune.max_length", "finetune.query_max_length")
def validate(
    call: Call, tokens: Annotated[bool, typer.Option("--tokens", help="count tokens and truncation by --model")] = False
) -> None:
    """Every problem of the data as file:line:field:fix; counts, lengths, duplicates, leaks between splits."""
    from bessemer.recipes.validate import validate_input

    validation, text = validate_input(call.config, tokens)
    call.answer(validation, text)
    if validation.problems:
        raise typer.Exit(3)


@verb("prepare", "source", "model", "out", "chunking.*", "split.*")
def prepare(call: Call) -> None:
    """Documents to passages: read, clean, deduplicate, chunk and split; a BEIR folder and dropped.jsonl."""
    from bessemer.recipes.documents import prepare_folder
    from bessemer.recipes.summary import funnel_summary

    result = prepare_folder(call.config)
    call.answer(result, funnel_summary(result))


@verb("questions", "data", "source", "model", "out", "questions.*", "split.*")
def questions(call: Call) -> None:
    """Questions for a corpus without a language model: extracted, split by document; a BEIR folder with qrels."""
    from bessemer.recipes.documents import questions_folder
    from bessemer.recipes.summary import funnel_summary

    result = questions_folder(call.config)
    call.answer(result, funnel_summary(result))


@verb("negatives", "data", "model", "negatives.*")
def negatives(
    call: Call,
    out: Annotated[str, typer.Option(help="BGE JSONL file to write")],
    split: Annotated[str, typer.Option(help="split to mine for")] = "train",
) -> None:
    """Hard negatives of a split, with scores and ids, as BGE JSONL."""
    from bessemer.recipes.negatives import negatives as run
    from bessemer.recipes.summary import negatives_summary

    result = run(call.config, split, out)
    call.answer(result, negatives_summary(result))


@verb("finetune", "data", *TRAINING, "negatives.strategy")
def finetune(
    call: Call,
    resume: Annotated[str, typer.Option(help="auto: from the last checkpoint; never: from the start")] = "auto",
) -> None:
    """Contrastive fine-tuning; the output folder is a sentence-transformers model with training.json."""
    from bessemer.recipes.finetune import finetune as run
    from bessemer.recipes.summary import training_summary

    if resume not in ("auto", "never"):
        raise ConfigError(f"--resume {resume}: give auto or never")
    result = run(call.config, resume=resume == "auto")
    call.answer(result, training_summary(result, call.config.out))


@verb("evaluate", "data", "evaluation.bootstrap_samples", "evaluation.top_k", "finetune.max_length")
def evaluate(
    call: Call,
    system: Annotated[list[str], typer.Option(help="NAME=SPEC: bm25, tfidf, dense:MODEL or hybrid:NAME+NAME")],
    split: Annotated[str, typer.Option(help="split to measure on")] = "test",
    similarity: Annotated[str | None, typer.Option(help="cosine, dot or cosine,dot [the model's own]")] = None,
    runs: Annotated[str | None, typer.Option(help="folder for TREC run files")] = None,
    require: Annotated[str | None, typer.Option(help="ship: exit with 6 on any other verdict")] = None,
) -> None:
    """Systems in one table; the last is judged against the first, with paired intervals and a verdict."""
    from bessemer.recipes.evaluate import evaluate as run
    from bessemer.recipes.summary import evaluation_summary

    _check_require(require)
    result = run(call.config, system, split, similarity, runs)
    call.answer(result, evaluation_summary(result))
    _require(result, require)


@verb("compare", "evaluation.bootstrap_samples")
def compare(
    call: Call,
    first: Annotated[str, typer.Argument(help="JSON of evaluate, or report.json")],
    second: Annotated[str, typer.Argument(help="the same, of the newer system")],
    require: Annotated[str | None, typer.Option(help="ship: exit with 6 on any other verdict")] = None,
) -> None:
    """The judged system of the second file against that of the first, query by query."""
    from bessemer.recipes.compare import compare as run
    from bessemer.recipes.summary import evaluation_summary

    _check_require(require)
    result = run(first, second, call.config.evaluation)
    call.answer(result, evaluation_summary(result))
    _require(result, require)


@verb("report")
def report(
    call: Call,
    file: Annotated[str, typer.Argument(help="report.json, or JSON of evaluate")],
    out: Annotated[str, typer.Option(help="page to write")] = "report.html",
) -> None:
    """The self-contained HTML page of a report.json."""
    from bessemer.evaluation.report import write_report
    from bessemer.recipes.compare import read_report

    value = read_report(file)
    path = write_report(value if "evaluation" in value else {"evaluation": value}, out)
    call.answer({"path": str(path)}, f"wrote {path}")


@verb("index", "source", "data", "model", "out", "chunking.*")
def index(call: Call) -> None:
    """Dense and BM25 index of documents or of a corpus, stamped with the model; again = only what changed."""
    from bessemer.recipes.index import index as run
    from bessemer.recipes.summary import index_summary

    result = run(call.config)
    call.answer(result, index_summary(result))


@verb("search")
def search(
    call: Call,
    query: Annotated[str, typer.Argument(help="what to look for")],
    index: Annotated[str, typer.Option(help="folder of the index")],
    top_k: Annotated[int, typer.Option(help="how many passages")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="rank and score in every lane")] = False,
) -> None:
    """Search an index: dense and BM25, fused by reciprocal rank."""
    from bessemer.recipes.summary import hits_summary
    from bessemer.search.index import open_index

    hits = open_index(index).search(query, top_k)
    call.answer(hits, hits_summary(hits, explain))


def _check_require(require: str | None) -> None:
    if require not in (None, "ship"):
        raise ConfigError(f"--require {require}: the one verdict that can be asked for is ship")


def _require(result: Mapping[str, Any], require: str | None) -> None:
    decision = (result.get("verdict") or {}).get("decision")
    if require and decision != require:
        print(f"verdict: {decision}, asked for: {require}", file=sys.stderr)
        raise typer.Exit(6)


def main() -> None:
    app()
