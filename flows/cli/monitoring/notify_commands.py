"""`nextday notify`: try the addresses of the messages."""

import typer

from flows.cli.arguments import options
from flows.cli.failures import echo_wrapped

__all__ = ["notify_app"]

notify_app = typer.Typer(no_args_is_help=True, help="Messages to people about the evenings.")


@notify_app.callback()
def _keep_name() -> None:
    """Messages to people about the evenings."""


@notify_app.command("test")
def notify_test() -> None:
    """Send a test message to every address of [notify] to; exit code 1 if one does not take it."""
    from flows.notify.news import open_notifier
    from pipeline.errors import InputError

    notifier = open_notifier(options.config, options.home)
    if not notifier.settings.to:
        raise InputError(
            "Nobody is to be told: [notify] to is empty",
            where=str(options.settings()),
            fix='write to = ["env:NEXTDAY_TELEGRAM"], and put an apprise address into that environment variable',
        )
    problems = notifier.test()
    for name, problem in problems.items():
        echo_wrapped(f"FIX  {name}: {problem}") if problem else typer.echo(f"sent to {name}")
    if any(problems.values()):
        raise typer.Exit(1)
