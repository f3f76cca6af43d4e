"""The stand-in for Yahoo, started by hand: a made-up market up to now, to try nextday without a network.

`make yahoo`, or python -m tests.support.yahoo_by_hand --help; docs/stand_in.md tells the rest.
"""

import argparse
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

from pipeline.errors import InputError, NextdayError
from pipeline.market.calendar import Calendar, calendar
from tests.support.made_market import make_stock
from tests.support.yahoo_market import Broken, Stock
from tests.support.yahoo_quirks import Unsettled, late
from tests.support.yahoo_server import FAULTS, Request, YahooServer

START = date(2018, 1, 2)
SPLIT, GONE = "2022-06-06", "2025-07-01"
LATE_BY = 3
WRITTEN = "# Written by the stand-in for Yahoo (make yahoo): it is written anew at each start.\n"
SETTINGS = """
[universe]
name = "stand-in"
source = "yahoo"
symbols = [{symbols}]

[prices]
start = {start}
requests_per_second = 10
proxy = "{proxy}"
ca_bundle = "{ca_bundle}"

[model]
members = 2                # small and quick: there is nothing to learn from random walks

[training]
epochs = 4
"""


def late_splits(days: Calendar) -> dict[str, tuple[int, int]]:
    """Return LATE's splits: on the first session of each quarter, two for one and one for two in turn."""
    firsts = pd.Series(days.sessions, days.sessions.to_period("Q")).groupby(level=0).first().iloc[1:]
    return {f"{day:%Y-%m-%d}": [(2, 1), (1, 2)][number % 2] for number, day in enumerate(firsts)}


def quarterly(days: Calendar, share: float) -> dict[str, float]:
    """Return payouts on the first session from the 10th of each February, May, August and November on."""
    tenths = pd.date_range(days.sessions[0], days.sessions[-1], freq="QS-FEB") + pd.Timedelta(days=9)
    firsts = [days.sessions[days.sessions >= tenth][:1] for tenth in tenths]
    return {f"{day:%Y-%m-%d}": share for first in firsts for day in first}


def made_up(days: Calendar) -> dict[str, Stock]:
    """Return a dozen listings with their quirks, by symbol; equal on any day that they are looked at."""
    sessions = days.sessions
    plain = ["ACME", "BOLT", "COAL", "DUNE", "EAST", "FLUX", "GRID", "HAZE", "IRON"]
    payouts = {"BOLT": quarterly(days, 0.004), "COAL": quarterly(days, 0.012), "IRON": quarterly(days, 0.008)}
    settled = Unsettled({"volume": 1 / 0.73})
    stocks = {
        symbol: make_stock(
            days,
            sessions,
            seed,
            splits={SPLIT: (4, 1)} if symbol == "ACME" else {},
            payouts=payouts.get(symbol, {}),
        ).with_quirks(settled)
        for seed, symbol in enumerate(plain)
    }
    stock = make_stock(days, sessions, 20, splits=late_splits(days))
    known = [
        (day, stock.after(day, LATE_BY)) for day in stock.splits if pd.Timestamp(day) < sessions[-LATE_BY]
    ]
    stocks["LATE"] = stock.with_quirks(*(quirk for day, until in known for quirk in late(day, until)))
    lived = sessions[sessions < pd.Timestamp(GONE)]
    stocks["GONE"] = make_stock(days, lived, 21).with_quirks(Broken("not found", since=GONE))
    index = make_stock(days, sessions, 22, kind="INDEX")
    stocks["^MADE"] = replace(index, traded=index.traded.assign(volume=0))
    return stocks


def write_settings(folder: Path, server: YahooServer) -> Path:
    """Write the nextday.toml that leads to the server.

    Raises:
        InputError: the folder has a nextday.toml of somebody else.
    """
    path = folder / "nextday.toml"
    if path.exists() and not path.read_text().startswith(WRITTEN):
        raise InputError("The stand-in did not write this file", where=str(path), fix="take another folder")
    symbols = ", ".join(f'"{symbol}"' for symbol in server.stocks)
    named = {"symbols": symbols, "start": START, "proxy": server.proxy, "ca_bundle": server.ca_bundle}
    path.write_text(WRITTEN + SETTINGS.format(**named))
    return path


def tell(request: Request) -> None:
    """Print one line of a request."""
    since = f"from {request.asked[0]:%Y-%m-%d}" if request.asked else ""
    asked = f"{request.kind:9} {request.symbol:8} {since:16}"
    print(f"{request.at:%H:%M:%S} {asked} {request.fault or 'ok'}", flush=True)


def explain(settings: Path, server: YahooServer) -> None:
    """Print what to do, and where to look."""
    clock, listing = server.clock, server.stocks["LATE"]
    now = "" if clock is None else f" --now {clock:%Y-%m-%dT%H:%M}Z"
    seen = "now" if clock is None else f"at {clock:%Y-%m-%d %H:%M}Z"
    nextday = Path(sys.executable).with_name("nextday")
    command = f"{nextday} --config {settings} --home {settings.parent / 'data'}{now}"
    opened = [day for day in listing.splits if listing.has_opened(day, listing.clock(server.now))]
    split = max(opened, default=min(listing.splits))
    learnt = listing.after(split, LATE_BY)
    print(f"A made-up market as Yahoo would show it {seen}. In another terminal:\n")
    print(f"  {command} update\n  {command} forecast\n")
    print(f"ACME   splits four for one on {SPLIT}")
    print("BOLT, COAL and IRON pay each quarter")
    print(f"GONE   is unknown from {GONE} on")
    print(f"LATE   splits each quarter, on {split} for one, which Yahoo learns on {learnt:%Y-%m-%d}")
    print("all    volumes are a third higher until the next session opens, as Yahoo's may be")
    print("Ctrl+C ends it; --help names what else it can do\n", flush=True)


def instant(text: str) -> pd.Timestamp:
    """Return a time in UTC."""
    stamp = pd.Timestamp(text)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="make yahoo", description=__doc__)
    parser.add_argument("--folder", type=Path, help="for nextday.toml and the workspace; default: a new one")
    parser.add_argument(
        "--port", type=int, default=0, help="to listen on, on 127.0.0.1; default: any free one"
    )
    parser.add_argument("--clock", type=instant, help="the market at this time, e.g. 2026-10-01T22:00 (UTC)")
    parser.add_argument("--fault", choices=sorted(FAULTS), default="", help="let every answer go wrong so")
    return parser.parse_args(arguments)


def serve(options: argparse.Namespace, folder: Path) -> None:
    """Serve until it is interrupted."""
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end.set())
    clock = options.clock
    days = calendar("XNYS", START, (pd.Timestamp.now("UTC") if clock is None else clock).to_pydatetime())
    with YahooServer(folder / "stand-in", port=options.port, valid=timedelta(days=30)) as server:
        server.clock, server.stocks, server.heard = clock, made_up(days), tell
        server.failing = lambda symbol, clock: options.fault
        explain(write_settings(folder, server), server)
        end.wait()
        print(f"Stopped. {len(server.requests)} requests; the workspace stays in {folder}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and serve; what cannot be done ends with exit code 2."""
    options = parse(arguments)
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="nextday-yahoo-"))).resolve()
    try:
        serve(options, folder)
    except (OSError, NextdayError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
