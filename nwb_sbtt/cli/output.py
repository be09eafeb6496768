"""What every command prints and where: --quiet, --verbose and --log, errors in one line, and JSON."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar, get_type_hints

import typer

from nwb_sbtt import stopping
from nwb_sbtt.atomic import make_folder
from nwb_sbtt.errors import ConfigError, FileError, SbttError
from nwb_sbtt.fileerrors import refusal
from nwb_sbtt.printable import printable

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in the shell and in typer."""
STOPPED = 75
"""Exit code after SIGUSR1: the state is saved, and the same command goes on; to systems that know it, "try again"."""

Quiet = Annotated[bool, typer.Option("--quiet", help="print results and errors only, no progress and no notes")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="show warnings of other packages, and where in the code an error arose")
]
Log = Annotated[Path | None, typer.Option("--log", help="append all that is printed to this file, with times")]
SHARED = {"quiet": (Quiet, False), "verbose": (Verbose, False), "log": (Log, None)}
"""Options of every command, by parameter: type and default."""

F = TypeVar("F", bound=Callable[..., Any])
_is_quiet: ContextVar[bool] = ContextVar("_is_quiet", default=False)


class App(typer.Typer):
    """Commands that share the options of `SHARED`, ``-h`` and plain text in their help.

    Parameters
    ----------
    **settings
        As of `typer.Typer`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            rich_markup_mode=None,
            invoke_without_command=True,
            context_settings={"help_option_names": ["-h", "--help"]},
            **settings,
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        """Register a function as a command, as `typer.Typer.command` does, with the shared options behind its own.

        Parameters
        ----------
        name : str, optional
        **settings
            As of `typer.Typer.command`.

        Returns
        -------
        callable
            Decorator, which returns the function as it was.
        """
        register = super().command(name, **settings)

        def decorate(function: F) -> F:
            register(_with_output(function))
            return function

        return decorate


def show_help(context: typer.Context) -> None:
    """Print the help of a group of commands where none of them is called; for the callback of an `App`.

    Parameters
    ----------
    context : typer.Context
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def logger(as_json: bool = False) -> Callable[[str], None]:
    """Return a function that prints progress: to standard output, to standard error beside JSON, nowhere with --quiet.

    Parameters
    ----------
    as_json : bool
        Whether standard output is for JSON.

    Returns
    -------
    callable
    """
    return lambda text: None if _is_quiet.get() else typer.echo(text, err=as_json)


def print_json(content: Any) -> None:
    """Print JSON to standard output.

    Parameters
    ----------
    content : object
        Plain values, all finite.
    """
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def guarded(action: Callable[[], int | None], *, verbose: bool = False) -> int | None:
    """Do something; what an input or the system refuses is printed as one line, and not raised.

    Parameters
    ----------
    action : callable
        Returns an exit code, or None.
    verbose : bool
        Print the traceback of an error above that line.

    Returns
    -------
    int or None
        What the action returned; 2 after an error, 130 after Ctrl-C, and 75 after SIGUSR1.
    """
    try:
        code = action()
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        usage = "nwb-sbtt" if context is None else context.command_path
        problem = _in_a_group(context, _sentence(error.format_message()))
        code = _fail(f"error: {problem}{' See' if problem.endswith('?') else '; see'} `{usage} --help`", 2)
    except (SbttError, MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise
        code = _fail(f"error: {refusal(error)}", 2, verbose)
    except stopping.Stopped:
        code = _fail("stopped by SIGUSR1 after saving the state; the same command resumes it", STOPPED)
    except KeyboardInterrupt:
        again = "the same command resumes a fit from its last saved state, a download from its last byte"
        code = _fail(f"interrupted; {again}", INTERRUPTED)
    return code


def _with_output(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command with the shared options, which it does not see itself."""

    @functools.wraps(function)
    def command(*values: Any, **options: Any) -> None:
        quiet, verbose, log = (options.pop(name) for name in SHARED)
        if quiet and verbose:
            raise ConfigError("--quiet and --verbose contradict each other; use only one of them")

        def run() -> int | None:
            with _silenced() if quiet else ExitStack():
                function(*values, **options)
            return None

        with _logged(log) if log else ExitStack(), _warnings_shown() if verbose else ExitStack():
            if code := guarded(run, verbose=verbose):
                raise typer.Exit(code)

    kinds = get_type_hints(function, include_extras=True)
    own = [p.replace(annotation=kinds[name]) for name, p in inspect.signature(function).parameters.items()]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in SHARED.items()
    ]
    command.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    command.__annotations__ = {**kinds, **{name: kind for name, (kind, _) in SHARED.items()}}
    return command


class _Tee:
    """A stream of text that is also written to a file, line by line, each with the time; no terminal, whatever it is."""

    def __init__(self, stream: Any, file: TextIO) -> None:
        self._stream, self._file, self._line = stream, file, ""

    def write(self, text: str) -> int:
        self._stream.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {printable(line)}\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
        self._file.flush()

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    make_folder(path.parent)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("a", encoding="utf-8"))
        except OSError as error:
            raise FileError(f"cannot write the log {refusal(error)}") from None
        stack.enter_context(redirect_stdout(_Tee(sys.stdout, file)))
        stack.enter_context(redirect_stderr(_Tee(sys.stderr, file)))
        yield


@contextmanager
def _silenced() -> Iterator[None]:
    """Drop what goes to standard error: progress and notes. Errors are printed after it, by `guarded`."""
    token = _is_quiet.set(True)
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        _is_quiet.reset(token)


@contextmanager
def _warnings_shown() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def _fail(text: str, code: int, verbose: bool = False) -> int:
    if verbose:
        traceback.print_exc()
    typer.echo(text, err=True)
    return code


def _in_a_group(context: Any, problem: str) -> str:
    """Name the command that was meant where a group has it: ``prepare`` is one of ``nlb``."""
    unknown = re.match(r"No such command '(.+?)'", problem)
    groups = {} if context is None else getattr(context.find_root().command, "commands", {})
    words = [
        f"{name} {unknown[1]}"
        for name, group in groups.items()
        if unknown and unknown[1] in getattr(group, "commands", {})
    ]
    return f"{unknown[0]}. Did you mean '{words[0]}'?" if unknown and words else problem


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
