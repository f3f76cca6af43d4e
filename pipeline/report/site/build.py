"""Build a site: only the pages whose inputs changed since they were written."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from pipeline.evaluation.attributions import select_strongest
from pipeline.formatting import format_day, format_interval, format_percent
from pipeline.market.corporate_actions import adjusted_close
from pipeline.outputs import list_outputs, select_output
from pipeline.report.site import addresses
from pipeline.report.site.inputs import EVENTS, SiteInputs
from pipeline.report.site.overview import render_index
from pipeline.report.site.price_chart import Prices
from pipeline.report.site.record import Part, measure_parts, score_symbols
from pipeline.report.site.symbol_page import (
    ROWS,
    Shared,
    SymbolInputs,
    digest_shared,
    digest_symbol,
    name_overall,
    render_symbol,
)
from pipeline.report.site.symbol_rows import SymbolRows
from pipeline.storage.files import write_pages, write_text

__all__ = ["Built", "State", "build_site", "read_state"]

_HERE: Final = Path(__file__).parent
_TEMPLATES: Final = _HERE.parent / "templates"
_BATCH: Final = 100
"""Pages in memory at a time."""


@dataclass(frozen=True)
class State:
    """What was written when a site was last built.

    Attributes:
        as_of: The session of its newest forecasts, YYYY-MM-DD; empty before the first.
        key: The digest of everything that the whole site was made of.
        pages: The digest of each page's inputs, and its bytes, by its path.
    """

    as_of: str = ""
    key: str = ""
    pages: Mapping[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """The result of a build: the index, how many pages were written, and how many there are."""

    index: Path
    written: int
    pages: int


def read_state(path: Path) -> State:
    """Return what was written last; an empty state where the file is missing or damaged: everything is built again."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        pages = {str(name): (str(digest), int(size)) for name, (digest, size) in stored["pages"].items()}
        return State(str(stored["as_of"]), str(stored["key"]), pages)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return State()


def build_site(inputs: SiteInputs, folder: Path, state_path: Path) -> Built:
    """Write the pages of a universe whose inputs changed, and remove those of listings that have none any more.

    Args:
        inputs: What the site is made of.
        folder: The universe's folder below the workspace's reports.
        state_path: Where the digests of the pages are kept; it can be deleted without loss.

    Raises:
        NextdayError: a file cannot be written.
    """
    state, key = read_state(state_path), _digest_inputs(inputs)
    names = [addresses.INDEX, *map(addresses.symbol_address, inputs.symbols)]
    kept = {name: page for name, page in state.pages.items() if _is_whole(folder / name, page[1])}
    index = folder / addresses.INDEX
    if state.key == key and kept.keys() >= {*names}:
        return Built(index, 0, len(names))
    made: dict[str, tuple[str, int]] = {}
    written = 0
    for pages in _render_changed(inputs, kept, made, key):
        write_pages(folder, pages)
        written += len(pages)
    for left in (folder / addresses.SYMBOLS).glob("[!.]*.html"):
        if left.relative_to(folder).as_posix() not in made:
            left.unlink(missing_ok=True)
    stored = {"as_of": f"{inputs.report.as_of:%Y-%m-%d}", "key": key, "pages": made}
    write_text(state_path, json.dumps(stored, indent=0) + "\n")
    return Built(index, written, len(made))


def _is_whole(path: Path, size: int) -> bool:
    """Return whether a page is there in its full length: a power cut may leave an empty one."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _render_changed(
    inputs: SiteInputs, kept: Mapping[str, tuple[str, int]], made: dict[str, tuple[str, int]], key: str
) -> Iterator[dict[str, str]]:
    """Yield the changed pages by their paths, the index last; `made` gets the digest and the bytes of every page."""
    parts, scores = measure_parts(inputs.report), score_symbols(inputs.report, inputs.listing)
    shared = _share(inputs, parts)
    common = digest_shared(shared)
    batch: dict[str, str] = {}
    for each in _list_symbols(inputs, scores):
        name, digest = addresses.symbol_address(each.symbol), digest_symbol(each, common)
        if name in kept and kept[name][0] == digest:
            made[name] = kept[name]
            continue
        batch[name] = render_symbol(each, shared)
        made[name] = (digest, len(batch[name].encode()))
        if len(batch) == _BATCH:
            yield batch
            batch = {}
    batch[addresses.INDEX] = render_index(inputs, parts, scores)
    made[addresses.INDEX] = (key, len(batch[addresses.INDEX].encode()))
    yield batch


def _share(inputs: SiteInputs, parts: list[Part]) -> Shared:
    report = inputs.report
    return Shared(
        universe=report.universe,
        as_of=format_day(report.as_of),
        verdict=report.verdict.title if report.verdict else "not scored yet",
        outputs=tuple(report.outputs),
        versions=tuple(sorted(report.record["model_version"].unique())),
        overall={name_overall(part.kind, part.output): _describe_overall(part) for part in parts},
        sources=_digest_sources(),
        is_rebuilt=inputs.is_rebuilt,
    )


def _describe_overall(part: Part) -> dict[str, str]:
    hits = part.score("hit_rate")
    if hits is None:
        return {"n": f"{part.verdict.n:,}"}
    return {
        "hit rate": format_percent(hits["value"]),
        "interval": format_interval(hits["low"], hits["high"], "hit_rate", hits["sessions"], hits["horizon"]),
        "n": f"{hits['n']:,}",
    }


def _list_symbols(inputs: SiteInputs, scores: pd.DataFrame) -> Iterator[SymbolInputs]:
    """Yield what each symbol's page is made of."""
    report, prices = inputs.report, inputs.prices
    rows = SymbolRows.of_record(report.record, inputs.listing, since=prices.sessions[0], least=ROWS)
    forecasts = report.forecasts
    listing = forecasts["symbol"].map(lambda symbol: inputs.current.get(symbol, symbol))
    tonight = _by_symbol(forecasts.to_dict("records"), listing)
    days = _days(inputs)
    close = adjusted_close(
        np.asarray(prices["close"], float),
        np.nan_to_num(prices["dividend"]),
        np.nan_to_num(prices["split"], nan=1.0),
    )
    columns = {symbol: place for place, symbol in enumerate(prices.symbols)}
    moves = _list_moves(inputs)
    own_scores = _by_symbol(scores.to_dict("records"), scores["group"])
    findings = _texts(report.findings, ("rule", "detail", "session"))
    events = _texts(inputs.quarantine[EVENTS], ("at", "event", "rule", "evidence"))
    reasons = dict(zip(report.skipped["symbol"], report.skipped["reason"], strict=True))
    for symbol in inputs.symbols:
        yield SymbolInputs(
            symbol=symbol,
            tonight=tonight.get(symbol, ()),
            rows=rows.of(symbol),
            prices=_prices(inputs, days, close, columns.get(symbol, -1)),
            scores=own_scores.get(symbol, ()),
            moves=moves.get(symbol, ()),
            findings=findings.get(symbol, ()),
            quarantine=events.get(symbol, ()),
            is_quarantined=symbol in inputs.quarantined,
            reason=reasons.get(symbol, ""),
        )


def _days(inputs: SiteInputs) -> "np.ndarray[Any, np.dtype[np.datetime64]]":
    """Return the sessions of a chart: those with prices, then the ones that tonight's first output is for."""
    known = inputs.prices.sessions
    nearest = select_output(inputs.report.forecasts, inputs.report.outputs[0])["target_session"].max()
    later = inputs.sessions[(inputs.sessions > known[-1]) & (inputs.sessions <= nearest)]
    return known.append(later).to_numpy("datetime64[D]")


def _prices(inputs: SiteInputs, days: Any, close: Any, at: int) -> Prices:
    if at < 0:
        nothing = np.full(len(inputs.prices.sessions), np.nan)
        return Prices(days, nothing, nothing, nothing, nothing, np.zeros_like(nothing), np.ones_like(nothing))
    traded, adjusted = np.asarray(inputs.prices["close"][:, at], float), close[:, at]
    known = np.flatnonzero(np.isfinite(traded))
    scale = traded[known[-1]] / adjusted[known[-1]] if len(known) else 1.0
    dividend, split = (np.asarray(inputs.prices[name][:, at], float) for name in ("dividend", "split"))
    factor = adjusted * scale / traded
    first, high, low = (
        np.asarray(inputs.prices[name][:, at], float) * factor for name in ("open", "high", "low")
    )
    return Prices(
        days, adjusted * scale, first, high, low, np.nan_to_num(dividend), np.nan_to_num(split, nan=1.0)
    )


def _list_moves(inputs: SiteInputs) -> dict[str, list[tuple[str, float]]]:
    """Return the features that moved tonight's forecast of the first output, by listing."""
    moves = inputs.report.attributions
    if moves.empty:
        return {}
    strongest = select_strongest(select_output(moves, list_outputs(inputs.report.forecasts)[0]), 5)
    return {
        inputs.current.get(symbol, symbol): [(str(name), float(value)) for name, value in found]
        for symbol, found in strongest.items()
    }


def _by_symbol(rows: list[dict[Any, Any]], symbols: "pd.Series[str]") -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for symbol, row in zip(symbols, rows, strict=True):
        found.setdefault(str(symbol), []).append(row)
    return found


def _texts(table: pd.DataFrame, columns: tuple[str, ...]) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for row in table.to_dict("records"):
        found.setdefault(str(row["symbol"]), []).append(tuple(_text(row[name]) for name in columns))
    return found


def _text(cell: Any) -> str:
    if isinstance(cell, pd.Timestamp):
        return f"{cell:%Y-%m-%d}"
    return "–" if pd.isna(cell) else str(cell)


def _digest_sources() -> str:
    """Return the digest of the code and the templates that make the pages."""
    files = sorted([*_HERE.glob("*.py"), *_TEMPLATES.rglob("*.html")])
    made = hashlib.sha256()
    for path in files:
        made.update(path.name.encode() + path.read_bytes())
    return made.hexdigest()[:16]


def _digest_inputs(inputs: SiteInputs) -> str:
    """Return a digest of everything that the site is made of; what the ledger holds is known by its head."""
    report = inputs.report
    facts = [
        *(
            _digest_sources(),
            report.ledger_head,
            report.as_of,
            report.data_version,
            report.config_digest,
            report.model,
        ),
        *(
            report.universe,
            report.members,
            report.covered,
            report.bias,
            report.tried,
            report.late_because,
            report.drift,
        ),
        *(
            report.verdict and report.verdict.to_json(),
            [(each, v.to_json()) for each, v in report.further.items()],
        ),
        *([each.sentence for each in report.decay], [each.sentence for each in report.challengers]),
        *(inputs.promotions, inputs.acceptances, inputs.quarantined, inputs.dated, inputs.backtest),
        *(
            inputs.undated,
            inputs.listed,
            inputs.left_out,
            inputs.is_rebuilt,
            sorted(inputs.current.items()),
            sorted(inputs.weekdays),
        ),
    ]
    made = hashlib.sha256(json.dumps(facts, default=str).encode())
    tables = (
        report.findings,
        report.skipped,
        report.attributions,
        report.last_calls,
        inputs.quarantine,
        report.scores,
    )
    for table in tables:
        made.update(",".join(map(str, table.columns)).encode())
        made.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    made.update(np.ascontiguousarray(inputs.prices.values).tobytes())
    return made.hexdigest()
