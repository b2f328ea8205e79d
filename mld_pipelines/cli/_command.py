"""Turns a function that returns an `Answer` into a command with `--json`, clean errors and an exit status."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mld_pipelines.cli._answer import Answer, print_document, print_text
from mld_pipelines.cli._exits import Exit, exit_of
from mld_pipelines.exceptions import MldError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["command", "debugging", "group", "run_program"]

_JSON = inspect.Parameter(
    "as_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")],
)


def group(help_text: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        add_completion=False,
    )


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register a function as a command; its docstring's first paragraph is the help.

    A function with a parameter `as_json` is told whether a script is listening.
    """

    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        signature = inspect.signature(function, eval_str=True)
        told = "as_json" in signature.parameters
        own = [parameter for parameter in signature.parameters.values() if parameter.name != "as_json"]

        @functools.wraps(function)
        def run(*, as_json: bool, **arguments: Any) -> None:
            passed = {**arguments, "as_json": as_json} if told else arguments
            raise typer.Exit(_finish(lambda: function(**passed), as_json=as_json))

        del run.__wrapped__  # typer must read the signature below, not the one of the wrapped function
        run.__signature__ = inspect.Signature([*own, _JSON])  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, _JSON]}
        run.__doc__ = (function.__doc__ or "").split("\n\n")[0]
        app.command(name)(run)
        return function

    return register


def _finish(answer: Callable[[], Answer], *, as_json: bool) -> int:
    try:
        given = answer()
    except BaseException as error:  # polars panics with a class of its own that is no Exception
        if isinstance(error, typer.Exit | typer.Abort | typer.BadParameter | SystemExit | GeneratorExit):
            raise
        return _report(_explained(error), as_json=as_json)
    if as_json:
        print_document(given.data, sys.stdout)
    else:
        print_text(given.text)
    return int(given.exit)


def _explained(error: BaseException) -> BaseException:
    """Return the damage in the lake that an error of a library comes from, else the error."""
    if isinstance(error, MldError | KeyboardInterrupt):
        return error
    from mld_pipelines.cli._open import open_lake
    from mld_pipelines.lake import explained

    try:
        return explained(open_lake(), error) or error
    except MldError:
        return error


def _report(error: BaseException, *, as_json: bool) -> int:
    status = exit_of(error)
    if debugging():
        traceback.print_exception(error)
    message = _message(error, status)
    if as_json:
        document = {"error": {"type": type(error).__name__, "message": message, "exit": int(status)}}
        print_document(document, sys.stdout)
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text(f"error: {message}", style="bold red"))
    return int(status)


def _message(error: BaseException, status: Exit) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted."
    text = " ".join(str(error).split())
    if isinstance(error, MldError):
        return text
    return f"unexpected {type(error).__name__}: {text}. This is a defect; MLD_DEBUG=1 shows where." if status else text


def run_program(app: typer.Typer) -> NoReturn:
    """Run the command line of this process; with `--json` wrong usage is a document too."""
    try:
        status = app(standalone_mode=False)
    except typer.Abort:
        status = Exit.INTERRUPTED
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:  # not a complaint of the parser
            raise
        show()
        status = getattr(error, "exit_code", Exit.USAGE)
        if "--json" in sys.argv:
            told: Callable[[], str] = getattr(error, "format_message", error.__str__)
            message = " ".join(told().split())
            print_document({"error": {"type": type(error).__name__, "message": message, "exit": status}}, sys.stdout)
    sys.exit(int(status or 0))


def debugging() -> bool:
    """Return whether `MLD_DEBUG` asks for tracebacks."""
    return os.environ.get("MLD_DEBUG", "") not in {"", "0"}
