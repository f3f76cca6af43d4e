"""Dividends that the closes contradict: in another unit than the prices, too large, or listed twice."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.prices.ingest.leaps import log_growth, symbol_slices, usual_return

__all__ = ["find_dividend_doubts"]

_RULE = "dividend in doubt"
_COLUMNS = ["symbol", "session", "rule", "detail"]
# Pence, cents and agorot, as Yahoo writes them: the currencies whose dividends may come in the main unit.
_MINOR_UNITS = ("GBp", "GBX", "ZAc", "ZAC", "ILA")
_UNIT = 100.0
# Below this share of the price a dividend may be in another unit: a symbol's usual dividend is several times as large.
_TINY = 1e-3
# The symbol's other dividends are about a hundred times as large: final ones are often twice the interim ones.
_UNIT_RATIO = (30.0, 300.0)
# The evidence of the ex-dates' returns, as a log likelihood ratio, that decides alone, and the least number of them
# where the currency has no smaller unit. Where it has one, most such dividends are in the larger one, unless as much
# evidence speaks against it.
_EVIDENCE, _FEW = 10.0, 4
# A return of more than three usual ones counts as three: it is other news.
_NEWS = 3.0
# A dividend counts as large from a quarter of the price on, or from six usual returns.
_LARGE, _VISIBLE, _MIN_VISIBLE = 0.25, 6.0, 0.02
# The least share of a large dividend by which the price has to fall.
_SHOWN = 0.4
# Sessions within which the same amount again is listed twice, and how much rarer the symbol's dividends have to be.
_TWICE_WITHIN, _RARER = 10, 3.0

Floats = NDArray[np.float64]


def find_dividend_doubts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each dividend that the closes beside it contradict, with the factor where there is one.

    - In another unit: below a thousandth of the close before it, and about a hundredth of the symbol's other dividends
      (all shares of the price), or without others. In a currency that is a hundredth of another (pence) it is
      likely, unless the returns of these ex-dates speak against it; in any other currency those of four ex-dates at
      least have to show it.
    - Not shown: a quarter of the close before it or more, or six usual returns (`find_leaps`), and the close falls by
      less than 40% of it. A distribution that the close shows, such as a spin-off, is none.
    - Twice: the same amount within ten sessions, from a company whose dividends are three times as far apart.

    Of 19,526 dividends of 487 US stocks (1999 to 2015) 29 are in doubt: 5 that the closes do not show, 16 listed again
    within four sessions, and 8 within ten, of which some were paid early.

    Args:
        rows: symbol, session, close, dividend, split, adjustment, currency, as traded, ascending in session within each
            symbol.

    Returns:
        symbol, session, rule (`dividend in doubt`), detail.
    """
    close, dividend, split = (rows[name].to_numpy(float) for name in ("close", "dividend", "split"))
    paid = (dividend > 0) & (rows["adjustment"] != "split+dividend").to_numpy()
    growth = log_growth(rows)
    paid &= ~np.isnan(growth)
    before = np.concatenate([[np.nan], close[:-1] / split[1:]])
    with np.errstate(invalid="ignore"):
        share, fall = dividend / before, 1 - close / before
    found = []
    for part in symbol_slices(rows):
        if not paid[part].any():
            continue
        dividends = _Dividends(
            np.flatnonzero(paid[part]), dividend[part], share[part], fall[part], growth[part]
        )
        for place, detail in sorted(dividends.doubts(rows["currency"].iloc[part.start]).items()):
            at = part.start + place
            what = f"a dividend of {dividend[at]:.6g} beside a close of {before[at]:.6g}: {detail}"
            found.append((rows["symbol"].iloc[at], rows["session"].iloc[at], _RULE, what))
    return pd.DataFrame(found, columns=_COLUMNS)


@dataclass(frozen=True, eq=False)
class _Dividends:
    """The dividends of one symbol, at `places`; the rest is [session].

    Attributes:
        amount: The dividend.
        share, fall: The dividend and the fall of the close, as shares of the close before.
        growth: The log total returns.
    """

    places: NDArray[np.intp]
    amount: Floats
    share: Floats
    fall: Floats
    growth: Floats

    def doubts(self, currency: str | None) -> dict[int, str]:
        """Return why a dividend is in doubt, by place."""
        return self._listed_twice() | self._in_another_unit(currency) | self._not_shown()

    def _in_another_unit(self, currency: str | None) -> dict[int, str]:
        share = self.share[self.places]
        is_tiny = share < _TINY
        if not is_tiny.any():
            return {}
        usual = np.median(share[~is_tiny]) if not is_tiny.all() else _UNIT * share
        ratio = usual / share
        places = self.places[is_tiny & (ratio > _UNIT_RATIO[0]) & (ratio < _UNIT_RATIO[1])]
        evidence = self._evidence_of_the_unit(places)
        if currency in _MINOR_UNITS:
            is_wrong, why = evidence > -_EVIDENCE, f"prices are in {currency}"
        else:
            is_wrong = len(places) >= _FEW and evidence > _EVIDENCE
            why = "the ex-dates' returns show that much"
        if not is_wrong:
            return {}
        return {
            int(
                place
            ): f"{self.share[place]:.3%} of the price; in another unit? With the factor {_UNIT:g} it is "
            f"{_UNIT * self.share[place]:.1%}, and {why}"
            for place in places
        }

    def _evidence_of_the_unit(self, places: NDArray[np.intp]) -> float:
        """Return by how much more likely the closes fall by a hundred dividends than by one (log likelihood ratio)."""
        usual = np.array([usual_return(self.growth, int(place)) for place in places])
        share = self.share[places]
        fall = np.clip(self.fall[places], share - _NEWS * usual, _UNIT * share + _NEWS * usual)
        gain = (fall - share) ** 2 - (fall - _UNIT * share) ** 2
        return float((gain / (2 * usual**2)).sum())

    def _not_shown(self) -> dict[int, str]:
        share, fall = self.share, self.fall
        large = self.places[(share[self.places] > _MIN_VISIBLE)]
        return {
            int(
                place
            ): f"{share[place]:.1%} of the price, which fell by {fall[place]:.1%}: the closes show the factor "
            f"{max(fall[place], 0) / share[place]:.2g} of it"
            for place in large[fall[large] < _SHOWN * share[large]]
            if share[place] > min(_LARGE, _VISIBLE * usual_return(self.growth, int(place)))
        }

    def _listed_twice(self) -> dict[int, str]:
        gaps, amount = np.diff(self.places), self.amount[self.places]
        if len(gaps) < _FEW:
            return {}
        is_again = np.isclose(amount[1:], amount[:-1], rtol=0.01) & (gaps <= _TWICE_WITHIN)
        is_again &= _RARER * gaps <= np.median(gaps)
        return {
            int(
                place
            ): f"the same amount was listed {gap} session{'s' if gap > 1 else ''} before: listed twice?"
            for place, gap in zip(self.places[1:][is_again], gaps[is_again], strict=True)
        }
