"""Yahoo Finance through yfinance: our own session on the wire, and outcomes told by what the wire said.

yfinance's own errors do not tell an outage from a delisting. The session below keeps what Yahoo answered, stops
yfinance where asking again cannot help, and paces every request.
"""

import atexit
import logging
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import peewee
import yfinance as yf
from curl_cffi.requests import Session
from pandas.errors import Pandas4Warning
from yfinance import cache
from yfinance.data import YfData
from yfinance.exceptions import YFPricesMissingError

from pipeline.errors import ConfigError
from pipeline.sources import BAR_COLUMNS, Fetched, Outcome

__all__ = ["YahooSource"]

_CHART = "/v8/finance/chart/"
_CRUMB = "/v1/test/getcrumb"
_COOKIE_HOSTS = {"fc.yahoo.com", "guce.yahoo.com", "consent.yahoo.com"}
_NEVER = "2100-01-01"
_COLUMNS = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Volume": "volume",
    "Adj Close": "adj_close",
}


class YahooSource:
    """Daily bars of Yahoo Finance, one symbol a call; safe to call from a few threads at once.

    Yahoo's open, high, low, close, volume and dividends are adjusted for every split up to the vendor's present
    and not for dividends; its adjusted close is adjusted for both.

    yfinance keeps its state in its module: one process has one YahooSource in use at a time.

    Args:
        cache_dir: An absolute folder for what yfinance remembers (the time zone of each symbol).
        proxy: `http://host:port` of a proxy, or empty.
        ca_bundle: A PEM file of certificates to trust instead of the usual ones, or empty.
        requests_per_second: The pace of all threads together.
        timeout: Seconds that one request may take.

    Raises:
        ConfigError: there is no file `ca_bundle`.
    """

    name = "yahoo"
    historical = False
    is_local = False
    threads = 4

    def __init__(
        self,
        *,
        cache_dir: Path,
        proxy: str = "",
        ca_bundle: str = "",
        requests_per_second: float = 1.5,
        timeout: float = 15,
    ) -> None:
        if ca_bundle and not Path(ca_bundle).is_file():
            raise ConfigError(
                "There is no file of certificates", where=ca_bundle, fix="correct [prices] ca_bundle"
            )
        self._timeout = timeout
        self._session = _Session(
            _Pace(requests_per_second), proxy=proxy, ca_bundle=ca_bundle, timeout=timeout
        )
        _set_up_yfinance(cache_dir)

    def symbols(self) -> list[str]:
        """Return nothing: Yahoo cannot list its symbols."""
        return []

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the symbol's bars from `start` on, those after `end` and after `now` too.

        Yahoo adjusts every price for all splits up to its own present, so bars as traded can be had back only
        with every later split at hand: cut by session after adjust.as_traded, not before. The newest bar may be
        of a session that is still open, and a row may be on a day that is no session.

        The first 429 ends the asking: later calls on this object answer `rate_limited` without a request.
        """
        try:
            table, meta = self._ask(symbol, start)
            bars = _bars(table, self._session.answer.actions)
        # yfinance raises whatever its parsing stumbles over; the wire says what it was.
        except Exception as error:
            outcome, reason = _explain(self._session.answer, error)
            return Fetched(symbol, outcome, now, reason=reason)
        finally:
            # Each thread has a SQLite connection of its own, which nothing else would close.
            cache._TzDBManager.close_db()
        if not bars["session"].between(start, end).any():
            return Fetched(symbol, "empty", now, reason="Yahoo has no bar in the asked sessions")
        return Fetched(
            symbol,
            "ok",
            now,
            bars=bars,
            adjustment="split",
            currency=meta.get("currency") or "",
            timezone=meta.get("exchangeTimezoneName") or "",
            lists_actions=True,
        )

    def _ask(self, symbol: str, start: pd.Timestamp) -> tuple[pd.DataFrame, Any]:
        self._session.answer = _Answer()
        # yfinance remembers answers in memory, failures and outdated adjustments among them.
        YfData.cache_get.cache_clear()
        ticker = yf.Ticker(symbol, session=self._session)
        table = ticker.history(
            start=f"{start:%Y-%m-%d}",
            end=_NEVER,
            interval="1d",
            prepost=False,
            actions=True,
            auto_adjust=False,
            back_adjust=False,
            repair=False,
            keepna=True,
            rounding=False,
            timeout=self._timeout,
        )
        return table, ticker.history_metadata


@dataclass
class _Action:
    """What took effect on one day of the exchange."""

    dividend: float = 0.0
    split: float = 1.0
    gain: float = 0.0


@dataclass(frozen=True)
class _Answer:
    """What came back for a chart request: a status with Yahoo's error code, or the name of an exception.

    `actions` are those that it lists, by their own day: yfinance gives those of a missing row to the row before.
    """

    status: int = 0
    code: str = ""
    failure: str = ""
    actions: Mapping[pd.Timestamp, _Action] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether other cookies could not change the answer; yfinance would try them at each error."""
        return self.status in (404, 429) or self.status >= 500


class _RefusedError(OSError):
    """The session sends no such request, or no further one."""


class _LimitedError(_RefusedError):
    """Yahoo answered 429, now or earlier."""


class _Pace:
    """Lets requests through one at a time, evenly spaced."""

    def __init__(self, per_second: float) -> None:
        self._gap, self._free, self._lock = 1 / per_second, 0.0, threading.Lock()

    def wait(self) -> None:
        """Return when it is this caller's turn."""
        with self._lock:
            turn = max(self._free, time.monotonic())
            self._free = turn + self._gap
        time.sleep(max(0.0, turn - time.monotonic()))


class _Session(Session):  # type: ignore[misc]  # curl_cffi is untyped here
    """What yfinance sends its requests through.

    `answer` is the last chart answer of the calling thread.
    """

    def __init__(self, pace: _Pace, *, proxy: str, ca_bundle: str, timeout: float) -> None:
        super().__init__(impersonate="chrome", proxy=proxy or None, verify=ca_bundle or True)
        self._pace, self._time_limit = pace, timeout
        self._is_limited, self._wish = threading.Event(), "ask again in some hours"
        self._of_thread = threading.local()

    @property
    def answer(self) -> _Answer:
        return getattr(self._of_thread, "answer", _Answer())

    @answer.setter
    def answer(self, answer: _Answer) -> None:
        self._of_thread.answer = answer

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Send a request in its turn; the answer to a chart request is kept, and a final one raised."""
        if not _is_needed(url):
            raise _RefusedError(f"yfinance wanted {urlsplit(url).path}, which holds no prices")
        self._wait()
        options["timeout"] = self._time_limit
        if _CHART not in url:
            return super().request(method, url, **options)
        try:
            response = super().request(method, url, **options)
        except Exception as error:
            self.answer = _Answer(failure=type(error).__name__)
            raise
        self.answer = _Answer(response.status_code, _error_code(response), actions=_actions(response))
        if self.answer.status == 429:
            wait = str(response.headers.get("Retry-After", ""))
            if wait.isdecimal():
                self._wish = f"it asks to wait for {wait} s"
            self._is_limited.set()
            raise _LimitedError(f"Yahoo answered 429: it limits this address, {self._wish}")
        if self.answer.is_final:
            raise _RefusedError(f"Yahoo answered {self.answer.status}")
        return response

    def _wait(self) -> None:
        if not self._is_limited.is_set():
            self._pace.wait()
        if self._is_limited.is_set():
            raise _LimitedError(f"Yahoo answered 429 earlier: it limits this address, {self._wish}")


class _CookieMemory:
    """yfinance's cookie cache, in memory: on disk it would be a pickle, and loading one runs whatever is in it."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Any]] = {}

    def lookup(self, strategy: str) -> dict[str, Any] | None:
        """Return what was stored, in the shape that yfinance expects."""
        return self._kept.get(strategy)

    def store(self, strategy: str, cookie: Mapping[str, Any]) -> None:
        """Keep the cookies of one domain, unless yfinance could not read them back."""
        a3 = next(iter(cookie.values())).get("/", {}).get("A3")
        if a3 is not None and a3.expires:
            self._kept[strategy] = {"cookie": cookie}


def _set_up_yfinance(cache_dir: Path) -> None:
    yf.config.debug.hide_exceptions = False
    # It calls every failure "possibly delisted"; outcomes are told by Fetched.
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)
    # It lets its own deprecated calls of pandas be heard on every fetch.
    warnings.filterwarnings("ignore", category=Pandas4Warning, module=r"yfinance(\.|$)")
    cache._CookieCacheManager._Cookie_cache = _CookieMemory()
    cache._TzCacheManager._tz_cache = None
    yf.set_tz_cache_location(str(cache_dir))
    if not _is_usable():
        cache._TzCacheManager._tz_cache = None
        spare = tempfile.mkdtemp(prefix="nextday-yfinance-")
        atexit.register(shutil.rmtree, spare, ignore_errors=True)
        yf.set_tz_cache_location(spare)
        _is_usable()


def _is_usable() -> bool:
    """Make the tables of the cache before several threads could, and look into them."""
    try:
        cache.get_tz_cache().lookup("")
    except (peewee.PeeweeException, OSError):
        return False
    finally:
        cache._TzDBManager.close_db()
    return True


def _is_needed(url: str) -> bool:
    parts = urlsplit(url)
    return parts.hostname in _COOKIE_HOSTS or parts.path.startswith((_CHART, _CRUMB))


def _error_code(response: Any) -> str:
    if response.status_code < 400:
        return ""
    try:
        return str(response.json()["chart"]["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def _actions(response: Any) -> dict[pd.Timestamp, _Action]:
    """Return the listed actions by the exchange's day; none where the answer cannot be read, as yfinance will say."""
    actions: dict[pd.Timestamp, _Action] = {}
    try:
        (result,) = response.json()["chart"]["result"]
        zone, listed = result["meta"]["exchangeTimezoneName"], result.get("events") or {}

        def of(event: Any) -> _Action:
            day = pd.Timestamp(event["date"], unit="s", tz="UTC").tz_convert(zone)
            return actions.setdefault(day.tz_localize(None).normalize(), _Action())

        for event in listed.get("dividends", {}).values():
            of(event).dividend += float(event["amount"])
        for event in listed.get("capitalGains", {}).values():
            of(event).gain += float(event["amount"])
        for event in listed.get("splits", {}).values():
            of(event).split *= float(event["numerator"]) / float(event["denominator"])
    except (ValueError, KeyError, TypeError, ZeroDivisionError):
        return {}
    return actions


def _explain(answer: _Answer, error: Exception) -> tuple[Outcome, str]:
    """Return the outcome and a sentence for people."""
    said = f"{answer.status} {answer.code}".strip()
    if isinstance(error, _LimitedError):
        return "rate_limited", str(error)
    if answer == _Answer():
        return "bad_payload", f"yfinance did not come to ask for prices: {error!s:.200}"
    if answer.failure:
        hint = (
            "; behind a company's proxy set [prices] proxy and ca_bundle" if "Cert" in answer.failure else ""
        )
        return "transient", f"Yahoo could not be reached ({answer.failure}){hint}"
    if answer.status >= 500:
        return "transient", f"Yahoo is out of order ({said})"
    if answer.status in (401, 403):
        return "transient", f"Yahoo refused access ({said})"
    if answer.status == 404 and answer.code == "Not Found":
        return "not_found", "Yahoo knows no such symbol; it may be delisted, renamed or misspelt"
    if isinstance(error, YFPricesMissingError):
        return "empty", f"Yahoo has no bar in the asked sessions{_because(error)}"
    if answer.status >= 400:
        return "bad_payload", f"Yahoo refused the request ({said})"
    return "bad_payload", f"Yahoo's answer could not be read ({type(error).__name__})"


def _because(error: Any) -> str:
    return f": {error.yahoo_reason:.200}" if error.yahoo_reason else ""


def _bars(table: pd.DataFrame, actions: Mapping[pd.Timestamp, _Action]) -> pd.DataFrame:
    """Return BAR_COLUMNS of yfinance's table, whose index is the exchange's own midnight.

    A day that has an action and no row gets a row without prices.
    """
    midnights = pd.DatetimeIndex(table.index).tz_localize(None).normalize()
    bars = table.rename(columns=_COLUMNS)[list(_COLUMNS.values())].assign(
        session=midnights.astype("datetime64[us]")
    )
    rowless = pd.DataFrame({"session": [day for day in actions if day not in midnights]})
    bars = pd.concat([bars, rowless.astype({"session": "datetime64[us]"})] if len(rowless) else [bars])
    acted = [actions.get(session, _Action()) for session in bars["session"]]
    # Yahoo has given a fund's gains both beside its dividends and inside them (yfinance repairs the latter):
    # a dividend at least as large as the gain holds it already.
    bars["dividend"] = [a.dividend + (a.gain if a.dividend < a.gain else 0.0) for a in acted]
    bars["split"] = [a.split for a in acted]
    # yfinance writes 0 where Yahoo has no volume; a row without any price has none.
    bars["volume"] = bars["volume"].where(bars[["open", "high", "low", "close"]].notna().any(axis=1))
    bars = bars[BAR_COLUMNS].astype(dict.fromkeys(BAR_COLUMNS[1:], float))
    return bars.sort_values("session", ignore_index=True, kind="stable")
