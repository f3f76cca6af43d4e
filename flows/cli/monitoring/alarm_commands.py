"""`nextday alarm`: what the decay alarm says of the live record, and a person's decision to go on."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import flow_arguments, options

if TYPE_CHECKING:
    from flows.runtime.context import Run
    from pipeline.monitoring.decay import Decay

__all__ = ["alarm_app"]

alarm_app = typer.Typer(no_args_is_help=True, help="The decay alarm of the live record.")


@alarm_app.command("show")
def alarm_show() -> None:
    """Show what the alarm says of each output, its evidence, drift of the inputs, and accepted alarms."""
    from flows.evening.decay import explain_decay
    from flows.training.verified_champion import Champions
    from pipeline.monitoring.acceptance import read_acceptances

    run, decays = _judge()
    for decay in decays:
        typer.echo(decay.sentence)
    champion = Champions(run).serving() if any(decay.is_news for decay in decays) else None
    if champion:
        last = run.ledger.last_as_of(run.name)
        if drift := explain_decay(run, last or champion.trained_through, run.store.seq(), champion, decays):
            typer.echo(drift)
    if not decays:
        typer.echo(
            "The source is historical: none of its forecasts is live, so there is no live record to test."
        )
    for each in read_acceptances(run.workspace.alarms(run.name)):
        typer.echo(f"accepted {each.at} by {each.by}: {each.why} ({'; '.join(each.found)})")


@alarm_app.command("accept")
def alarm_accept(
    why: Annotated[str, typer.Option(help="Why it goes on, for who reads this later.")],
    by: Annotated[str, typer.Option(help="Who decides.", show_default="the user of this process")] = "",
) -> None:
    """Go on after an alarm: the test begins anew with the next forecasts, and [alarm] on_decay = "stop" ends.

    Who, when, why and what the alarm said are written down; the sealed record stays as it is.
    """
    from flows.runtime.tasks import PATIENCE
    from flows.training.champion import who_is_it
    from pipeline.errors import InputError
    from pipeline.monitoring.acceptance import accept

    if not why.strip():
        raise typer.BadParameter("write a reason", param_hint="--why")
    run, decays = _judge()
    found = {decay.output: decay.title for decay in decays if decay.state == "decayed"}
    if not found:
        raise InputError(
            f"There is no alarm to accept: {'; '.join(decay.sentence for decay in decays) or 'no live record'}",
            where=f"the live record of {run.name!r}",
            fix="nextday alarm show tells what the alarm says",
        )
    with run.workspace.locked(run.name, timeout=PATIENCE, log=typer.echo):
        path = run.workspace.alarms(run.name)
        accept(path, at=run.clock(), by=by.strip() or who_is_it(), why=why.strip(), found=found)
    typer.echo(f"{options.settings()}: the next forecasts are tested anew ({path})")


def _judge() -> "tuple[Run, list[Decay]]":
    from flows.evening.decay import judge_record
    from flows.runtime.context import open_run

    run = open_run(**flow_arguments(), read_only=True)
    return run, judge_record(run, run.ledger.universe_record(run.name))
