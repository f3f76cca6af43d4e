"""nextday in a notebook: a workspace read-only as pandas frames and pictures, and a procedure scored on your own frame.

Everything goes through the functions that the command line calls. See docs/python.md.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from flows.evening.record_scores import score_record
from flows.prices.reader import StoredPrices, open_stored_prices
from flows.prices.update import update_prices
from flows.runtime.context import Run, open_run
from flows.training.compute import open_compute
from flows.training.evaluation import load_evaluation
from flows.training.history import make_sequences
from flows.training.scoring import score_further_outputs, score_procedure
from flows.training.train import train_procedure
from flows.training.verified_champion import Champions
from pipeline.errors import InputError, quoted
from pipeline.evaluation.verdict import Verdict
from pipeline.features.sequences import Sequences
from pipeline.ledger.ledger import Ledger
from pipeline.outputs import Output
from pipeline.prices.revisions import read_history
from pipeline.storage.files import write_text

__all__ = ["OpenWorkspace", "Picture", "Scored", "fit_and_score", "open_workspace"]

_SHOWN = ["model", "group", "metric", "value", "low", "high", "n", "sessions", "baseline", "baseline_value"]


@dataclass(frozen=True)
class Picture:
    """A figure as SVG; a notebook shows it."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return self.svg


@dataclass(frozen=True, eq=False)
class Scored:
    """A procedure scored on rows that its fit never saw; a notebook shows the verdict and the model's scores.

    Attributes:
        verdict: On the first output.
        scores: schema.SCORES: every method, with n, 95% interval and baseline.
        test_rows: The forecasts of the test range, symbol by session: p_up, direction, outcome, by model.
        further: The verdicts on the further outputs.
        figures: The figures that were stored with it, by name.
    """

    verdict: Verdict
    scores: pd.DataFrame
    test_rows: pd.DataFrame
    further: Mapping[Output, Verdict] = field(default_factory=dict)
    figures: Mapping[str, Picture] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        own = self.scores[self.scores["model"] == self.verdict.model]
        sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.verdict.sentences)
        return f"{sentences}{own[_SHOWN].to_html(index=False, na_rep='–', float_format='{:.4f}'.format)}"


@dataclass(frozen=True, eq=False)
class OpenWorkspace:
    """A workspace that is only read; a notebook shows what it holds.

    Attributes:
        run: The settings, calendar, universe and stores.
        stored: The price store with its clock.
    """

    run: Run
    stored: StoredPrices

    def prices(self, symbols: Sequence[str] = (), *, as_of: str = "", known_at: str = "") -> pd.DataFrame:
        """Return bars as traded (schema.PRICES and seq), by symbol and session.

        Args:
            symbols: Default: all.
            as_of: The last session, as 2018-12-31; default: the newest.
            known_at: Leave out what was observed later, e.g. 2018-12-10T22:00Z; default: everything known now.

        Raises:
            InputError: a date or time cannot be read, is no session, or lies in the future.
        """
        session, known = self._session(as_of), self._instant(known_at)
        return self.stored.store.read(session, known_at=known, symbols=[*symbols] or None)

    def history(self, symbol: str, *, as_of: str = "", known_at: str = "") -> pd.DataFrame:
        """Return one symbol's bars with `adj_close`, the total-return close in the units of the first bar.

        Raises:
            InputError: as `prices`; or there is no such bar.
        """
        session, known = self._session(as_of), self._instant(known_at)
        return read_history(self.stored.store, symbol, session, known).bars

    def sequences(self, as_of: str = "") -> Sequences:
        """Return what a model is trained on: x [symbol, session, feature], mask, and labels y.

        Raises:
            InputError: the date is no session.
            StoreError: there are no prices.
        """
        last = self._session(as_of) or self.stored.store.read(columns=[])["session"].max()
        return make_sequences(self.run, last, self.stored.store.seq()).sequences

    def features(self, symbol: str, as_of: str = "") -> pd.DataFrame:
        """Return one symbol's features by session, [session, feature]; NaN where its row is masked.

        Raises:
            InputError: as `sequences`; or there is no such symbol.
        """
        known = self.sequences(as_of)
        if symbol not in known.symbols:
            raise InputError(
                f"There are no sequences of {quoted(symbol)}",
                where=f"the universe {self.run.name}",
                fix=f"one of {', '.join([*known.symbols][:10])}",
            )
        place = [*known.symbols].index(symbol)
        frame = pd.DataFrame(known.x[place], index=known.sessions, columns=[*known.features])
        return frame.where(pd.Series(known.mask[place], index=known.sessions), axis=0)

    def forecasts(self, role: str = "champion") -> pd.DataFrame:
        """Return the sealed forecasts of a role with their outcomes, as `Ledger.record` does.

        Raises:
            LedgerError: the ledger is damaged.
        """
        return self._ledger.record(self.run.name, role=role)

    def scores(self, role: str = "champion") -> pd.DataFrame:
        """Return the scores of the settled forecasts (schema.SCORES), live and late apart.

        Raises:
            LedgerError: the ledger is damaged.
        """
        return score_record(self.forecasts(role), role)

    def evaluation(self) -> Scored:
        """Return how the procedure of the champion scored on the sessions held out from its fit.

        Raises:
            InputError: no champion was trained yet.
            StoreError: its evaluation is missing or damaged.
        """
        champion = Champions(self.run).serving()
        if champion is None:
            raise InputError(
                "No champion was trained yet",
                where=str(self.run.workspace.home),
                fix="nextday forecast trains one",
            )
        found = load_evaluation(
            self.run.workspace.evaluation(self.run.name, champion.version), champion.evaluation
        )
        figures = {name: Picture(svg) for name, svg in found.figures.items()}
        return Scored(found.verdict, found.scores, found.test_rows, found.further, figures)

    def _repr_html_(self) -> str:
        record = self.forecasts()
        facts = {
            "universe": f"{self.run.name} ({self.run.calendar.name}), {len(self.run.universe.symbols):,} symbols",
            "workspace": str(self.run.workspace.home),
            "prices": f"{len(self.stored.store.symbols()):,} symbols, version {self.stored.store.seq()}",
            "record": f"{len(record):,} forecasts sealed, {record['outcome'].notna().sum():,} settled",
            "head": self._ledger.head().hash,
        }
        rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
        return f"<table>{rows}</table>"

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self.run.workspace.ledger, read_only=True)

    def _session(self, text: str) -> pd.Timestamp | None:
        return self.stored.session(_read(date.fromisoformat, text, "as_of", "2018-12-31")) if text else None

    def _instant(self, text: str) -> datetime | None:
        given = _read(datetime.fromisoformat, text, "known_at", "2018-12-10T22:00Z") if text else None
        return self.stored.instant(given)


def open_workspace(config: str | Path = "nextday.toml", home: str | Path | None = None) -> OpenWorkspace:
    """Open the workspace of a settings file, read-only: nothing is fetched, trained or written.

    Args:
        config: The settings.
        home: The workspace; default: NEXTDAY_HOME, or data/ next to the settings.

    Raises:
        InputError: the settings cannot be used.
        LedgerError: there is no ledger yet.
    """
    path, folder = Path(config), Path(home) if home else None
    return OpenWorkspace(open_run(path, folder, read_only=True), open_stored_prices(path, folder, None))


def fit_and_score(
    prices: pd.DataFrame,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    folder: str | Path | None = None,
) -> Scored:
    """Fit a procedure and every baseline on a frame of prices, and score them on its newest sessions.

    It is the scored fit of `nextday retrain`: the prices are checked as those of a file, the fit sees nothing of the
    test range, and the verdict compares with the baseline that was best before it. Nothing is sealed or registered.

    Args:
        prices: One row per symbol and session: date, symbol, open, high, low, close, volume, and as far as there are
            any dividend and split; all forms of docs/files.md are read. Of closes alone only the feature set "closes"
            is made.
        settings: Sections and keys of nextday.toml, e.g. {"model": {"kind": "logistic"}}; default: those of nextday.
        folder: Where the workspace is kept; default: a temporary folder, which is removed.

    Raises:
        InputError: the settings or the frame cannot be used; the message says why.
        NextdayError: there is too little history.
    """
    with nullcontext(folder) if folder else TemporaryDirectory() as place:
        home = Path(place).resolve()
        home.mkdir(parents=True, exist_ok=True)
        prices.to_parquet(home / "prices.parquet")
        write_text(home / "nextday.toml", _format_settings(settings or {}))
        run = open_run(home / "nextday.toml", home / "data")
        status = update_prices(run)
        known = make_sequences(run, status.as_of, status.seq)
        with open_compute(run, known.sequences) as compute:
            walk, _, _ = train_procedure(run, known, compute)
        scores, verdict = score_procedure(run, walk)
        further: dict[Output, Verdict] = {}
        if len(known.sequences.outputs) > 1:
            farther, further = score_further_outputs(run, walk)
            scores = pd.concat([scores, farther], ignore_index=True)
    return Scored(verdict, scores, walk.test, further)


def _format_settings(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the settings as TOML, whose values of these kinds are written as in JSON."""
    own = {"name": "frame", "source": "files", "path": "prices.parquet", "historical": True}
    sections = {**settings, "universe": {**own, **settings.get("universe", {})}}
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_format_value(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    )


def _format_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(str(k))} = {_format_value(v)}" for k, v in value.items()) + " }"
    return json.dumps([*value] if isinstance(value, tuple) else value, default=str)


def _read(reader: Any, text: str, name: str, example: str) -> Any:
    try:
        return reader(text)
    except ValueError:
        raise InputError(f"{quoted(text)} cannot be read", where=name, fix=f"write {example}") from None
