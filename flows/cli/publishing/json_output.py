"""The option --json: one JSON document on standard output, also where a command fails; the rest on standard error."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, NoReturn, TextIO

import typer

from flows.cli.failures import describe_unexpected, echo_wrapped, find_cause

__all__ = ["AsJson", "call", "documents_alone", "fail", "print_document"]

AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON document instead (docs/json.md); progress on standard error."
    ),
]
"""The option of the commands that can answer in JSON."""


class _Output:
    """Where documents go: None where none is asked for."""

    stream: TextIO | None = None


def call(app: typer.Typer, arguments: list[str]) -> NoReturn:
    """Run the command line and end with its exit code.

    Raises:
        SystemExit: with the exit code; also of wrong arguments, which are printed before.
        Exception: what went wrong; where a document is asked for also wrong arguments, for `fail` to answer.
    """
    if _Output.stream is None:
        app(arguments, standalone_mode=True)
    code = app(arguments, standalone_mode=False)
    raise SystemExit(code if isinstance(code, int) else 0)


def print_document(text: str) -> None:
    """Write a document to standard output.

    Raises:
        SystemExit: whoever reads it has gone.
    """
    stream = _Output.stream or sys.stdout
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise SystemExit(1) from None


def fail(error: Exception) -> NoReturn:
    """Print an error in a few lines, as a document too where one is asked for, and end with its exit code.

    Raises:
        SystemExit: always.
    """
    if hasattr(error, "format_message"):  # Typer's, of wrong arguments
        code, what, where, fix = _read_usage(error)
    else:
        error = find_cause(error)
        ours = error if hasattr(error, "fix") else describe_unexpected(error)
        code = int(getattr(ours, "exit_code", 1))
        what, where, fix = (str(getattr(ours, name)) for name in ("what", "where", "fix"))
    lines = [what, *[f"  where: {where}"] * bool(where), *[f"  fix:   {fix}"] * bool(fix)]
    echo_wrapped("nextday: " + "\n".join(lines))
    if _Output.stream is not None:
        from pipeline.report.documents.failure import Failure

        print_document(Failure.read(code, what, where, fix).to_text())
    raise SystemExit(code) from None


def _read_usage(error: Exception) -> tuple[int, str, str, str]:
    """Return the exit code, message, place and fix of an error of Typer's."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "nextday"
    hint = getattr(error, "param_hint", None)
    where = hint if isinstance(hint, str) else "the arguments"
    code = int(getattr(error, "exit_code", 2))
    message = str(error.format_message())  # type: ignore[attr-defined]
    return code, message, where, f"{command} --help"


@contextmanager
def documents_alone(arguments: list[str]) -> Iterator[None]:
    """Where the arguments ask for JSON, let only documents reach standard output: the rest goes to standard error.

    So does what other processes and compiled code print, which write to the descriptor itself.
    """
    if "--json" not in arguments or {"--help", "--version"} & {*arguments}:
        yield
        return
    own = sys.stdout
    try:
        descriptor, kept = own.fileno(), os.dup(own.fileno())
    except (OSError, ValueError):  # no file, as under a test
        descriptor = kept = -1
    _Output.stream = own if kept < 0 else os.fdopen(kept, "w", encoding="utf-8")
    sys.stdout = sys.stderr
    try:
        if kept >= 0:
            os.dup2(sys.stderr.fileno(), descriptor)
        yield
    finally:
        sys.stdout = own
        if kept >= 0:
            os.dup2(kept, descriptor)
            with suppress(OSError):  # a document that nobody wants to read any more
                _Output.stream.close()
        _Output.stream = None
