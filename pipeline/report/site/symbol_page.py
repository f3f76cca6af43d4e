"""The page of one symbol: its price, the calls on it, its record beside the universe's, findings on its prices."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline.formatting import (
    format_alike,
    format_interval,
    format_p_value,
    format_percent,
    format_price,
    format_return,
    format_score,
)
from pipeline.outputs import TARGETS, Output, describe_output
from pipeline.report.html import render_page
from pipeline.report.site.price_chart import (
    CANDLES,
    Prices,
    plot_calls,
    plot_candles,
    plot_prices,
    tally_calls,
)
from pipeline.report.site.record import KINDS
from pipeline.report.site.symbol_rows import RESULTS, Rows
from pipeline.schema import DIRECTIONS

__all__ = [
    "ROWS",
    "Shared",
    "SymbolInputs",
    "digest_shared",
    "digest_symbol",
    "name_overall",
    "render_symbol",
]

ROWS: Final = 20
"""Rows of the record that a page lists."""
_STRONGEST: Final = 5
"""Features that a page names of those that moved a forecast."""


@dataclass(frozen=True)
class Shared:
    """What every page of a site shows.

    Attributes:
        universe: Its name.
        as_of: The session of tonight's forecasts, in words.
        verdict: The title of the verdict on the method.
        outputs: The outputs, in order.
        versions: The model versions by code of the rows.
        overall: The scores of all symbols by kind and output: texts.
        sources: The digest of the code and the templates.
        is_rebuilt: Whether the price checks' findings are not known.
    """

    universe: str
    as_of: str
    verdict: str
    outputs: tuple[Output, ...]
    versions: tuple[str, ...]
    overall: Mapping[str, Mapping[str, str]]
    sources: str
    is_rebuilt: bool = False


@dataclass(frozen=True, eq=False)
class SymbolInputs:
    """What one page is made of.

    Attributes:
        symbol: The listing's current symbol.
        tonight: Tonight's forecasts: rows of schema.FORECASTS in the order of the outputs.
        rows: Its newest rows of the record.
        prices: Its bars.
        scores: Its rows of `record.score_symbols`.
        moves: The features that moved tonight's forecast of the first output, the strongest first.
        findings: Its findings of tonight's price checks: rule, detail, session as texts.
        quarantine: Its quarantine events: at, event, rule, evidence as texts.
        is_quarantined: Whether it is in quarantine tonight.
        reason: Why it has no forecast tonight; empty where it has one.
    """

    symbol: str
    tonight: Sequence[Mapping[str, Any]]
    rows: Rows
    prices: Prices
    scores: Sequence[Mapping[str, Any]]
    moves: Sequence[tuple[str, float]] = ()
    findings: Sequence[tuple[str, ...]] = ()
    quarantine: Sequence[tuple[str, ...]] = ()
    is_quarantined: bool = False
    reason: str = ""


def digest_symbol(inputs: SymbolInputs, shared: str) -> str:
    """Return a digest of everything that a page shows: equal inputs make an equal page.

    Args:
        inputs: What the page is made of.
        shared: Of `digest_shared`.
    """
    made = hashlib.sha256(shared.encode())
    plain = (
        *(inputs.symbol, inputs.tonight, inputs.scores, inputs.moves[:_STRONGEST], inputs.findings),
        *(inputs.quarantine, inputs.is_quarantined, inputs.reason),
    )
    made.update(json.dumps(plain, default=str, sort_keys=True).encode())
    prices = inputs.prices
    for name, column in sorted(inputs.rows.items()):
        made.update(name.encode() + np.ascontiguousarray(column).tobytes())
    for array in (
        prices.days,
        prices.close,
        prices.open,
        prices.high,
        prices.low,
        prices.dividend,
        prices.split,
    ):
        made.update(np.ascontiguousarray(array).tobytes() + b"|")
    return made.hexdigest()


def digest_shared(shared: Shared) -> str:
    """Return a digest of what every page shows."""
    return hashlib.sha256(json.dumps(asdict(shared), default=str, sort_keys=True).encode()).hexdigest()


def render_symbol(inputs: SymbolInputs, shared: Shared) -> str:
    """Return the page of a symbol; equal inputs give equal bytes."""
    rows, prices = inputs.rows, inputs.prices
    main = shared.outputs[0]
    is_main = (rows["horizon"] == main.horizon) & (rows["target"] == TARGETS.index(main.target))
    calls = {name: column[is_main] for name, column in rows.items()}
    return render_page(
        "site/symbol.html",
        symbol=inputs.symbol,
        shared=shared,
        tonight=[_describe_forecast(row) for row in inputs.tonight],
        reason=inputs.reason,
        main=describe_output(main),
        price=plot_prices(inputs.symbol, prices) if prices.is_known else None,
        candles=plot_candles(inputs.symbol, prices),
        newest_sessions=min(CANDLES, len(prices.close)),
        actions=prices.actions,
        calls=plot_calls(inputs.symbol, prices, calls),
        tallies=tally_calls(calls["result"], calls["kind"]),
        record=[_compare(row, shared) for row in _pair(inputs.scores)],
        newest=[*_list_rows(rows, shared)],
        has_several=len(shared.outputs) > 1,
        moves=[(name, format_alike(value, decimals=3)[0]) for name, value in inputs.moves[:_STRONGEST]],
        findings=inputs.findings,
        quarantine=inputs.quarantine,
        is_quarantined=inputs.is_quarantined,
    )


def _describe_forecast(row: Mapping[str, Any]) -> dict[str, str]:
    output = Output(str(row["target"]), int(row["horizon"]))
    return {
        "output": describe_output(output),
        "target": f"{pd.Timestamp(row['target_session']):%a %Y-%m-%d}",
        "as_of": f"{pd.Timestamp(row['as_of']):%a %Y-%m-%d}",
        "direction": str(row["direction"]),
        "p": format_percent(row["p_up"]),
        "band": f"{format_percent(row['low'])} to {format_percent(row['high'])}",
        "base": format_percent(row["baseline_p_up"]),
        "close": format_price(row["last_close"]),
        "kind": str(row["kind"]),
        "model": str(row["model_version"]),
    }


def _pair(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    """Return the scores of each kind and output by metric, the live ones first."""
    found: dict[tuple[str, str, int], dict[str, Mapping[str, Any]]] = {}
    for row in scores:
        found.setdefault((row["kind"], row["target"], row["horizon"]), {})[row["metric"]] = row
    return [found[key] for key in sorted(found, key=lambda key: KINDS.index(key[0]))]


def name_overall(kind: str, output: Output) -> str:
    """Return the key of the universe's scores."""
    return f"{kind} {output.target} {output.horizon}"


def _compare(row: Mapping[str, Mapping[str, Any]], shared: Shared) -> dict[str, str]:
    """Return a line of the symbol's record beside the universe's, as texts."""
    loss, hits = row["log_loss"], row.get("hit_rate")
    output = Output(str(loss["target"]), int(loss["horizon"]))
    saved = format_alike(loss["baseline_value"] - loss["value"])[0]
    return {
        "kind": str(loss["kind"]),
        "output": describe_output(output),
        "hit rate": format_percent(hits["value"]) if hits else "–",
        "interval": _interval(hits) if hits else "",
        "base rate": format_percent(hits["baseline_value"]) if hits else "–",
        "saved": saved,
        "log loss": f"{format_score(loss['value'], 'log_loss')}, {_interval(loss)}",
        "p": format_p_value(loss["adjusted_p"]),
        "tested": f"{loss['groups']:,}",
        "n": f"{loss['n']:,}",
        "sessions": f"{loss['sessions']:,}",
        **{
            f"all {name}": text
            for name, text in shared.overall.get(name_overall(loss["kind"], output), {}).items()
        },
    }


def _interval(score: Mapping[str, Any]) -> str:
    return format_interval(score["low"], score["high"], score["metric"], score["sessions"], score["horizon"])


def _list_rows(rows: Rows, shared: Shared) -> list[dict[str, str]]:
    """Return the newest rows of the record as texts, the newest first."""
    newest = range(len(rows["p_up"]) - 1, max(len(rows["p_up"]) - ROWS, 0) - 1, -1)
    return [_describe_row({name: column[at] for name, column in rows.items()}, shared) for at in newest]


def _describe_row(row: Mapping[str, Any], shared: Shared) -> dict[str, str]:
    output = Output(TARGETS[row["target"]], int(row["horizon"]))
    above, below, _ = output.directions
    result = RESULTS[row["result"]]
    outcome = {1.0: above, 0.0: below}.get(float(row["outcome"]), "open" if result == "open" else "no label")
    return {
        "session": str(row["target_session"]),
        "output": describe_output(output),
        "direction": DIRECTIONS[row["direction"]],
        "p": format_percent(row["p_up"]),
        "base": format_percent(row["baseline_p_up"]),
        "outcome": outcome,
        "return": format_return(row["realized_return"]),
        "result": result,
        "kind": "live" if row["kind"] else "late",
        "model": shared.versions[row["version"]][:8],
    }
