"""Yahoo Finance through yfinance, with a custom HTTP session; outcomes follow from the HTTP responses.

yfinance's own errors do not distinguish an outage from a delisting. The session below records Yahoo's responses, stops
yfinance where a retry cannot help, and limits the request rate.
"""

import atexit
import logging
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd
import peewee
import yfinance as yf
from curl_cffi.requests import Session
from pandas.errors import Pandas4Warning
from yfinance import cache
from yfinance.data import YfData

from pipeline.errors import ConfigError, quoted
from pipeline.sources import BAR_COLUMNS, Fetched, Outcome
from pipeline.sources.yahoo_answers import Action, Answer, explain_failure, read_response
from pipeline.sources.yahoo_symbols import is_isin, is_same_symbol, suggest_symbol

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
_WITHOUT_VOLUME = {"MUTUALFUND", "MONEYMARKET", "INDEX", "CURRENCY"}
"""Instrument types that are not traded by volume: Yahoo's 0 means that it reports none."""


class YahooSource:
    """Daily bars of Yahoo Finance, one symbol per call; safe to call from several threads.

    Yahoo's open, high, low, close, volume and dividends are adjusted for all splits up to the time of the request,
    not for dividends; its adjusted close is adjusted for both.

    yfinance keeps module-level state: use one YahooSource at a time per process.

    Args:
        cache_dir: An absolute folder for yfinance's cache (the time zone of each symbol).
        proxy: `http://host:port` of a proxy, or empty.
        ca_bundle: A PEM file of certificates to trust instead of the default ones, or empty.
        requests_per_second: The request rate of all threads together.
        timeout: The timeout of one request, in seconds.

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
                "The certificate file does not exist", where=ca_bundle, fix="correct [prices] ca_bundle"
            )
        self._timeout = timeout
        self._session = _Session(
            _RateLimiter(requests_per_second), proxy=proxy, ca_bundle=ca_bundle, timeout=timeout
        )
        _set_up_yfinance(cache_dir)

    def symbols(self) -> list[str]:
        """Return an empty list: Yahoo cannot list its symbols."""
        return []

    def fetch(self, symbol: str, start: pd.Timestamp, end: pd.Timestamp, now: datetime) -> Fetched:
        """Return the symbol's bars from `start` on, including those after `end` and after `now`.

        Yahoo adjusts every price for all splits up to the time of the request, so bars as traded can only be restored
        with every later split: cut by session after `as_traded` (corporate_actions), not before. The newest bar may
        belong to a session that is still open, and a row may be on a day that is no session.

        After the first 429 or 999 later calls on this object return `rate_limited` without a request.
        """
        if is_isin(symbol):
            return Fetched(
                symbol, "not_found", now, reason=f"{symbol} is an ISIN; Yahoo needs its own symbol"
            )
        try:
            table, meta = self._request_history(symbol, start)
            answer = self._session.answer
            bars = _bars(table, answer)
        # yfinance raises any error of its parsing; the HTTP response shows the cause.
        except Exception as error:
            outcome, reason = self._explain(error)
            if outcome == "not_found" and (written := suggest_symbol(symbol)) is not None:
                reason = f"Yahoo knows no symbol {symbol}; Yahoo writes {written}"
            return Fetched(symbol, outcome, now, reason=reason)
        finally:
            # yfinance opens one SQLite connection per thread, which nothing else closes.
            cache._TzDBManager.close_db()
        if answer.symbol and not is_same_symbol(symbol, answer.symbol):
            reason = f"Yahoo was asked for {symbol} and answered for {quoted(answer.symbol)}"
            return Fetched(symbol, "bad_payload", now, reason=reason)
        if not bars["session"].between(start, end).any():
            return Fetched(symbol, "empty", now, reason="Yahoo has no bar in the requested sessions")
        return Fetched(
            symbol,
            "ok",
            now,
            bars=bars,
            adjustment="split",
            currency=meta.get("currency") or "",
            timezone=meta.get("exchangeTimezoneName") or "",
            lists_actions=True,
            findings=tuple(
                (bars["session"].iloc[-1] if fault.day is None else fault.day, fault.rule, fault.detail)
                for fault in answer.faults
            ),
        )

    def _explain(self, error: Exception) -> tuple[Outcome, str]:
        if isinstance(error, _LimitedError):
            return "rate_limited", str(error)
        return explain_failure(self._session.answer, error)

    def _request_history(self, symbol: str, start: pd.Timestamp) -> tuple[pd.DataFrame, Any]:
        self._session.answer = Answer()
        # yfinance caches responses in memory, including failures and outdated adjustments.
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


class _RefusedError(OSError):
    """The session does not send this request, or no further request."""


class _LimitedError(_RefusedError):
    """Yahoo limits this address since this or an earlier request."""


class _RateLimiter:
    """Lets requests through one at a time, evenly spaced."""

    def __init__(self, per_second: float) -> None:
        self._interval, self._next_free, self._lock = 1 / per_second, 0.0, threading.Lock()

    def wait(self) -> None:
        """Block until the calling thread may send a request."""
        with self._lock:
            turn = max(self._next_free, time.monotonic())
            self._next_free = turn + self._interval
        time.sleep(max(0.0, turn - time.monotonic()))


class _Session(Session):  # type: ignore[misc]  # curl_cffi is untyped here
    """The HTTP session of yfinance.

    `answer` is the last chart response in the calling thread.
    """

    def __init__(self, limiter: _RateLimiter, *, proxy: str, ca_bundle: str, timeout: float) -> None:
        super().__init__(impersonate="chrome", proxy=proxy or None, verify=ca_bundle or True)
        self._limiter, self._time_limit = limiter, timeout
        self._is_limited, self._advice = threading.Event(), "try again in some hours"
        self._limited_by = 429
        self._of_thread = threading.local()

    @property
    def answer(self) -> Answer:
        return getattr(self._of_thread, "answer", Answer())

    @answer.setter
    def answer(self, answer: Answer) -> None:
        self._of_thread.answer = answer

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Send a request under the rate limit; read the response to a chart request, and raise where it is final."""
        if not _is_needed(url):
            raise _RefusedError(f"yfinance requested {urlsplit(url).path}, which is not needed for prices")
        self._wait()
        options["timeout"] = self._time_limit
        if _CHART in url:
            host, _, symbol = url.partition(_CHART)  # yfinance does not quote the / of BRK/B
            url = f"{host}{_CHART}{quote(symbol, safe='')}"
        try:
            response = super().request(method, url, **options)
        except Exception as error:
            if _CHART in url:
                self.answer = Answer(failure=type(error).__name__)
            raise
        # A request for prices may end at the page that asks for consent, and the consent at the prices.
        if _CHART in url or _CHART in response.url:
            self._read_answer(response)
        return response

    def _read_answer(self, response: Any) -> None:
        """Read the response to a chart request, and raise where it is final."""
        self.answer = read_response(response)
        if self.answer.is_limited:
            wait = str(response.headers.get("Retry-After", ""))
            if wait.isdecimal():
                self._advice = f"wait {wait} s"
            self._limited_by = self.answer.status
            self._is_limited.set()
            raise _LimitedError(f"Yahoo answered {self._limited_by}: it limits this address, {self._advice}")
        if self.answer.is_final:
            raise _RefusedError(f"Yahoo answered {self.answer.status}")

    def _wait(self) -> None:
        if not self._is_limited.is_set():
            self._limiter.wait()
        if self._is_limited.is_set():
            raise _LimitedError(
                f"Yahoo answered {self._limited_by} earlier: it limits this address, {self._advice}"
            )


class _CookieMemory:
    """yfinance's cookie cache, in memory: on disk it would be a pickle, and loading a pickle can run code."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Any]] = {}

    def lookup(self, strategy: str) -> dict[str, Any] | None:
        """Return the stored cookies in the shape that yfinance expects."""
        return self._kept.get(strategy)

    def store(self, strategy: str, cookie: Mapping[str, Any]) -> None:
        """Store the cookies of one domain, unless yfinance could not read them back."""
        a3 = next(iter(cookie.values())).get("/", {}).get("A3")
        if a3 is not None and a3.expires:
            self._kept[strategy] = {"cookie": cookie}


def _set_up_yfinance(cache_dir: Path) -> None:
    yf.config.debug.hide_exceptions = False
    # yfinance logs every failure as "possibly delisted"; `Fetched` has the outcome.
    logging.getLogger("yfinance").setLevel(logging.CRITICAL)
    # yfinance's own deprecated pandas calls would warn on every fetch.
    warnings.filterwarnings("ignore", category=Pandas4Warning, module=r"yfinance(\.|$)")
    cache._CookieCacheManager._Cookie_cache = _CookieMemory()
    cache._TzCacheManager._tz_cache = None
    yf.set_tz_cache_location(str(cache_dir))
    if not _is_cache_usable():
        cache._TzCacheManager._tz_cache = None
        spare = tempfile.mkdtemp(prefix="nextday-yfinance-")
        atexit.register(shutil.rmtree, spare, ignore_errors=True)
        yf.set_tz_cache_location(spare)
        _is_cache_usable()


def _is_cache_usable() -> bool:
    """Create the tables of the cache before several threads do, and return whether they can be read."""
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


def _bars(table: pd.DataFrame, answer: Answer) -> pd.DataFrame:
    """Return BAR_COLUMNS of yfinance's table, whose index has midnights of the exchange's time zone.

    A day with an action and no row gets a row without prices.
    """
    actions = answer.actions
    midnights = pd.DatetimeIndex(table.index).tz_localize(None).normalize()
    bars = table.rename(columns=_COLUMNS)[list(_COLUMNS.values())].assign(
        session=midnights.astype("datetime64[us]")
    )
    rowless = pd.DataFrame({"session": [day for day in actions if day not in midnights]})
    bars = pd.concat([bars, rowless.astype({"session": "datetime64[us]"})] if len(rowless) else [bars])
    listed = [actions.get(session, Action()) for session in bars["session"]]
    # Yahoo lists a fund's capital gains sometimes separately, sometimes inside the dividend (yfinance repairs the
    # latter): a dividend at least as large as the gain includes it.
    bars["dividend"] = [a.dividend + (a.gain if a.dividend < a.gain else 0.0) for a in listed]
    bars["split"] = [a.split for a in listed]
    # yfinance writes 0 where Yahoo has no volume; without any price the volume is missing.
    is_reported = bars[["open", "high", "low", "close"]].notna().any(axis=1)
    if answer.kind in _WITHOUT_VOLUME:
        is_reported &= bars["volume"] != 0
    bars["volume"] = bars["volume"].where(is_reported)
    bars = bars[BAR_COLUMNS].astype(dict.fromkeys(BAR_COLUMNS[1:], float))
    return bars.sort_values("session", ignore_index=True, kind="stable")
