"""How a verb becomes a command: options from configuration keys, answers, exit codes, logging."""

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
from bessemer.processes import started

app = typer.Typer(
    name="bessemer",
    help="From your documents to a retriever that finds them, with proof.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

COMMON = ("workspace", "seed", "device")


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

    def plan(self, planned: Mapping[str, Any]) -> None:
        """What a dry run found."""
        from bessemer.recipes.plan import plan_summary

        self.answer(planned, plan_summary(planned))


def verb(
    name: str, *keys: str, plans: bool = False, processes: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command. ``keys`` are configuration keys that become options, ``finetune.*`` a whole section,
    ``llm=llm.url`` one under another name; the function's own further parameters become options or arguments as Typer
    reads them. ``plans``: it says itself what a dry run finds. ``processes``: it may run under torchrun."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        fields = dict(_named(key) for pattern in (*keys, *COMMON) for key in _expanded(pattern))
        own = [p for n, p in inspect.signature(function, eval_str=True).parameters.items() if n != "call"]

        def command(**given: Any) -> None:
            flags = {key: given.pop(flag) for flag, key in fields.items()}
            config_file, answer_to = given.pop("config"), given.pop("json")
            quiet, dry_run = given.pop("quiet"), given.pop("dry_run")
            rank, n_processes = started()
            if rank > 0:  # the first process answers for all
                quiet, answer_to = True, None
            with _exit_codes():
                _set_up_logging(quiet)
                if n_processes > 1 and not processes:
                    raise ConfigError(f"{name} runs in one process; under torchrun run finetune")
                names = {key: flag for flag, key in fields.items()}
                call = Call(load_config(config_file, flags, names), answer_to, quiet, dry_run)
                call.claim()
                if dry_run and not plans:
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


def _named(key: str) -> tuple[str, str]:
    """(flag, key)."""
    flag, renamed, of = key.partition("=")
    return (flag, of) if renamed else (key.rsplit(".", 1)[-1], key)


def _section(name: str) -> type[Section]:
    return typing.cast(type[Section], Config.model_fields[name].annotation)


def _option(flag: str, key: str) -> inspect.Parameter:
    """An option for a configuration key; its default, None, means: as the file or the built-in default says."""
    owner = _section(key.split(".")[0]) if "." in key else Config
    field = owner.model_fields[key.rsplit(".", 1)[-1]]
    kind: Any = field.annotation
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kinds = [a for a in typing.get_args(kind) if a is not type(None)]
        kind = kinds[0] if len(kinds) == 1 else str  # the configuration reads what it may be
    if typing.get_origin(kind) in (typing.Literal, Mapping, tuple):
        kind = str
    default = "" if field.default in (None, ()) else f" [{_shown(field.default)}]"
    name = f"--{flag.replace('_', '-')}"
    names = (f"{name}/--no-{flag.replace('_', '-')}",) if kind is bool else (name,)
    annotation = Annotated[kind | None, typer.Option(*names, help=f"{field.description or flag}{default}")]
    return inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _shown(default: Any) -> str:
    """As a command line gives it."""
    return ",".join(f"{k}={v}" for k, v in default.items()) if isinstance(default, Mapping) else str(default)


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
    rank, n_processes = started()
    prefix = f"process {rank}: error:" if n_processes > 1 else "error:"
    print("\n".join(f"{prefix} {printable(line)}" for line in message.splitlines()), file=sys.stderr)
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
