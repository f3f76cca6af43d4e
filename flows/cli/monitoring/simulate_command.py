"""`nextday simulate`: the evenings of past sessions in one process, and what they would have looked like."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.arguments import flow_arguments, options, parse_date, parse_path
from flows.cli.failures import echo_wrapped
from flows.cli.startup import working

if TYPE_CHECKING:
    from flows.simulation.summary import Summary

__all__ = ["simulate_app"]

simulate_app = typer.Typer()


@simulate_app.command("simulate")
def simulate(
    first: Annotated[
        str, typer.Option("--from", metavar="SESSION", help="The session of the first evening.")
    ],
    last: Annotated[str, typer.Option("--to", metavar="SESSION", help="The session of the last evening.")],
    into: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="The folder of the simulation: new, empty, or that of one to go on with.",
            parser=parse_path,
        ),
    ],
) -> None:
    """Run the evenings, weekly trainings and maintenance of past sessions, with the clock moved.

    Everything happens in a workspace of its own, and every row is late and marked as simulated. Ctrl+C stops it; the
    same command goes on. Prices of a remote source are those that the workspace has stored: no vendor is asked.
    """
    days = parse_date(first, "--from"), parse_date(last, "--to")
    if options.now is not None:
        raise typer.BadParameter("a simulation moves the clock itself", param_hint="--now")
    flow_arguments()
    from flows.simulation.checks import check_request
    from flows.simulation.simulate import simulate as run_simulation
    from flows.simulation.summary import summarize

    request = check_request(options.config, options.home, into, *days)
    echo_wrapped(f"Simulation in {request.workspace.home}; Ctrl+C stops it, and the same command goes on")
    try:
        with working():
            simulated = run_simulation(request)
    except KeyboardInterrupt:
        echo_wrapped("The simulation has stopped; the same command goes on where it was.")
        raise
    _show(summarize(simulated))


def _show(summary: "Summary") -> None:
    """Print the record of each output, what became of the models, the alarm, the findings, and where the page is."""
    from flows.cli.console import console
    from pipeline.formatting import count, format_day
    from pipeline.outputs import describe_output

    lines = [
        "",
        f"Simulated: {count(summary.evenings, 'evening')}, {format_day(summary.first)} to {format_day(summary.last)}. "
        "Every row is late; the settings were chosen knowing what came after.",
        f"{count(summary.forecasts, 'forecast')} sealed, {summary.settled:,} settled"
        + (f"; {count(summary.challenger_rows, 'row')} of challengers" if summary.challenger_rows else ""),
    ]
    for each in summary.outputs:
        name = f"{describe_output(each.output)}: " if len(summary.outputs) > 1 else ""
        lines += ["", f"{name}{each.verdict.sentence}", *(f"  {score}" for score in each.scores)]
    lines += ["", f"{count(summary.trainings, 'training')}, {count(len(summary.promotions), 'promotion')}:"]
    lines += [f"  {each.on:%Y-%m-%d}  {each.model_version}  {each.in_words}" for each in summary.promotions]
    lines += ["", *(f"decay alarm, {decay.sentence}" for decay in summary.decay)]
    lines += ["", f"findings of the price checks{':' if summary.findings else ': none'}", *summary.findings]
    if summary.failed:
        lines += [
            "",
            f"{count(len(summary.failed), 'run')} failed for want of prices, {summary.failed[0]} for one",
        ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=not console.is_terminal)
    console.print("\nthe page of the last evening, and the workspace:")
    for path in (summary.report, summary.workspace):
        console.print(f"  {path}", markup=False, soft_wrap=True)
