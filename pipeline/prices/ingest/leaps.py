"""Leaps inside one history: closes that jump as faults do, and not as markets do.

A market that moves by a quarter trades many times its usual volume over many times its usual range. A fault (a split
that is not listed, another unit, one wrong row) scales whole bars: the range stays calm, the volume usual, and often
the leap is taken back. Measured on 487 US stocks of 1999 to 2015: 932 closes moved by more than a quarter, 12 are
named, and 11 of these are faults (wrong bars, splits, and distributions that are not listed); tests/bench counts them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "LASTING",
    "describe_step",
    "find_leaps",
    "find_undone_leaps",
    "find_ways_back",
    "is_unit_change",
    "log_growth",
    "symbol_slices",
    "usual_return",
]

LASTING = 5
"""Sessions after which a jump counts as real, and within which a spike is taken back: vendors list splits a few
sessions late at most."""

Floats = NDArray[np.float64]

_MIN = np.log(1.25)
# Sessions on each side that give the usual size of returns, ranges and volumes.
_AROUND = 31
# The standard deviation of a normal distribution over the median of its absolute values.
_NORMAL = 1.4826
# The smallest usual return: funds and currencies may hardly move for months.
_MIN_DEVIATION = 0.005
# A leap is taken back where no more than this share of it remains, and the way back has a step of half its size.
_REMAINDER, _STEP = 0.25, 0.5
_SPLITS = np.array([1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50])
# Pence for pounds, with a move of the day of up to 6%.
_UNIT, _UNIT_MOVE = np.log(100), 0.06
# Sizes in usual returns: of a spike over one session and over several, of a lasting leap with the factor of a split
# (with and without volumes), of any other lasting leap, and of one that no volume explains.
_SPIKE, _LONG_SPIKE, _SPLIT, _SPLIT_ALONE, _ALONE, _BEYOND = 12, 10, 8, 20, 15, 40
# A calm bar, and a very calm one: range and volume as multiples of the usual ones.
_CALM, _VERY_CALM = (4.0, 4.0), (2.5, 2.0)
# Of a symbol with more moves of a quarter than this, only those beyond its usual ones are looked at.
_MANY = 50
_KEY = ["symbol", "session"]
_COLUMNS = [*_KEY, "rule", "detail", "is_lasting", "size"]


def log_growth(rows: pd.DataFrame) -> Floats:
    """Return the log total return from the previous close, [row], NaN on each symbol's first row.

    Args:
        rows: symbol, close, dividend, split, as traded, ascending in session within each symbol.
    """
    close, dividend, split = (rows[name].to_numpy(float) for name in ("close", "dividend", "split"))
    growth = np.full(len(rows), np.nan)
    growth[1:] = np.log((close[1:] + dividend[1:]) * split[1:] / close[:-1])
    growth[[each.start for each in symbol_slices(rows)]] = np.nan
    return growth


def symbol_slices(rows: pd.DataFrame) -> list[slice]:
    """Return the rows of each symbol, which are together."""
    starts = np.flatnonzero(np.diff(pd.factorize(rows["symbol"])[0], prepend=-1))
    return [slice(*ends) for ends in pairwise([*starts.tolist(), len(rows)])]


def describe_step(before: float, close: float, dividend: float, split: float) -> str:
    """Return the two closes and the factor of a leap: that of the return, where an action is part of it."""
    closes = f"the close went from {before:.6g} to {close:.6g}"
    actions = [f"split of {split:g}"] if split != 1 else []
    actions += [f"dividend of {dividend:.6g}"] if dividend else []
    factor = (close + dividend) * split / before
    if not actions:
        return f"{closes} (x {factor:.4g})"
    return f"{closes}; with the {' and the '.join(actions)} listed, the return is x {factor:.4g}"


def is_unit_change(logs: Floats, tolerance: float = _UNIT_MOVE) -> NDArray[np.bool_]:
    """Return whether log ratios are those of another unit: a hundred times as high or a hundredth, and a day's move."""
    return np.asarray(np.abs(np.abs(logs) - _UNIT) < tolerance)


def find_ways_back(growth: Floats) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return, by row, the sessions until its leap is taken back, and whether it takes one back.

    A leap that is not taken back within `LASTING` sessions has 0.

    Args:
        growth: The log returns of any symbols, NaN on each one's first row (`log_growth`).
    """
    codes, level, size = np.isnan(growth).cumsum(), np.nancumsum(growth), np.abs(growth)
    back, takes_back = np.zeros(len(growth), dtype=np.intp), np.zeros(len(growth), dtype=bool)
    for later in range(min(LASTING, len(growth) - 1), 0, -1):
        leap, step = growth[:-later], growth[later:]
        remainder = level[later:] - level[:-later] + leap
        is_back = (codes[later:] == codes[:-later]) & (leap * step < 0)
        is_back &= np.abs(step) > _STEP * size[:-later]
        is_back &= np.abs(remainder) < _REMAINDER * size[:-later]
        back[:-later][is_back] = later
        takes_back[later:] |= is_back
    return back, takes_back


def find_leaps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a finding for each leap of more than a quarter that looks like a fault.

    A leap is measured in usual returns: 1.48 times the median size of the other returns that are not zero, over 31
    sessions before and after it, or over the whole history if that is more. Named are leaps that

    - are taken back within five sessions (`spike`): by the next session, or later with a calm bar;
    - have the factor of a split that is listed within five sessions of it, or its square, which an inverse ratio
      makes (`split fault`);
    - have a factor of 100 (`unit fault`);
    - last, with a calm bar: range and volume below four times their usual size (`unexplained leap`). The detail says
      where the factor is that of a usual split. Leaps of 40 usual returns need only the calm range.

    A range or a volume that is not given is no evidence: without a range only lasting leaps of 40 usual returns are
    named, and without a volume those of 20 too that have the factor of a usual split and a very calm range. A return
    that the dividend alone makes is no leap (`find_dividend_doubts`).

    Args:
        rows: symbol, session, open, high, low, close, volume, dividend, split, as traded, ascending in session within
            each symbol.

    Returns:
        symbol, session, rule, detail, is_lasting (whether it was not taken back), size (of the log return).
    """
    whole = _History.of(rows, log_growth(rows))
    found = [
        (*rows[_KEY].iloc[place], leap.rule, leap.detail, not leap.back, abs(whole.growth[place]))
        for part in symbol_slices(rows)
        if whole.is_large[part].any()
        for leap in whole.part(part).leaps()
        for place in [part.start + leap.place]
    ]
    return pd.DataFrame(found, columns=_COLUMNS).astype(
        {"session": "datetime64[us]", "is_lasting": bool, "size": float}
    )


def find_undone_leaps(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return the leaps of an earlier version of some bars that the later one corrects and adds none to.

    Args:
        before: The earlier version, as `find_leaps` takes it.
        after: The later version.

    Returns:
        What `find_leaps` returns of them; nothing of a symbol to which the later version adds a leap.
    """
    was, now = find_leaps(before), find_leaps(after)
    old, new = (pd.MultiIndex.from_frame(leaps[_KEY]) for leaps in (was, now))
    return was[~old.isin(new) & ~was["symbol"].isin(now.loc[~new.isin(old), "symbol"])]


@dataclass(frozen=True)
class _Leap:
    """A leap at `place`, and the sessions until it was taken back (0: never)."""

    place: int
    back: int
    rule: str
    detail: str


@dataclass(frozen=True, eq=False)
class _History:
    """Rows of one symbol, or of many together, each [row].

    Attributes:
        growth: The log total returns.
        is_large: Whether the close itself moves by more than a quarter, and the total return with it.
        spread: The log ranges.
        turnover: The values traded.
    """

    close: Floats
    dividend: Floats
    split: Floats
    growth: Floats
    is_large: NDArray[np.bool_]
    spread: Floats
    volume: Floats
    turnover: Floats

    @classmethod
    def of(cls, rows: pd.DataFrame, growth: Floats) -> "_History":
        close, dividend, split, high, low, volume = (
            rows[name].to_numpy(float) for name in ("close", "dividend", "split", "high", "low", "volume")
        )
        plain = np.zeros_like(growth)
        plain[1:] = np.log(close[1:] * split[1:] / close[:-1])
        is_large = (np.abs(growth) > _MIN) & (np.abs(plain) > _MIN) & (growth * plain > 0)
        return cls(close, dividend, split, growth, is_large, np.log(high / low), volume, volume * close)

    def part(self, places: slice) -> "_History":
        return _History(*(getattr(self, field.name)[places] for field in fields(self)))

    def leaps(self) -> Iterator[_Leap]:
        """Yield the leaps; the way back of a spike is none of its own."""
        size, done = np.abs(self.growth), 0
        places = np.flatnonzero(self.is_large)
        if len(places) > _MANY:
            places = places[size[places] > _SPLIT * _NORMAL * _median(size)]
        ways_back = find_ways_back(self.growth)[0]
        for place in places.tolist():
            if place <= done:
                continue
            back = int(ways_back[place])
            others = self.growth.copy()
            others[[place, place + back]] = np.nan
            deviation = usual_return(others, place)
            if back and self._is_spike(place, back, size[place] / deviation):
                done = place + back
                yield _Leap(place, back, *self._describe_spike(place, back, deviation))
            elif lasting := self._lasting(place, deviation):
                yield _Leap(place, 0, *lasting)

    def _is_spike(self, place: int, back: int, score: float) -> bool:
        if back == 1 and score > _SPIKE:
            return True
        is_calm = self._relative_range(place) <= _CALM[0]
        return score > _LONG_SPIKE and (is_calm or score > 2 * _LONG_SPIKE)

    def _relative_range(self, place: int) -> float:
        """Return the bar's range as a multiple of the usual one; NaN where bars have no range (closes, funds)."""
        usual = _median(self.spread[_around(place)])
        return float(self.spread[place]) / max(usual, _MIN_DEVIATION) if usual else np.nan

    def _relative_volume(self, place: int) -> float:
        """Return the bar's volume as a multiple of the usual one; NaN where no volume is given.

        A split that is not listed multiplies the shares, another unit the value: the one that stays usual counts.
        """
        here = _around(place)
        usual = [_median(values[here]) for values in (self.volume, self.turnover)]
        now = [values[place] for values in (self.volume, self.turnover)]
        return min(float(one / other) if other else np.nan for one, other in zip(now, usual, strict=True))

    def _describe_spike(self, place: int, back: int, deviation: float) -> tuple[str, str]:
        rule = "unit fault" if self._is_unit(place, deviation) else "spike"
        return (
            rule,
            f"{self._step(place)}, and back within {back} session{'s' if back > 1 else ''}: a wrong bar?",
        )

    def _is_unit(self, place: int, deviation: float) -> bool:
        return bool(is_unit_change(self.growth[place], max(_UNIT_MOVE, 3 * deviation)))

    def _lasting(self, place: int, deviation: float) -> tuple[str, str] | None:
        """Return rule and detail of a leap that was not taken back; None for a move of the market."""
        size, tolerance = abs(self.growth[place]), min(3 * deviation, 0.25)
        score = size / deviation
        near = self.split[max(place - LASTING, 0) : place + LASTING + 1]
        listed = near[(near != 1) & (near > 0)]
        distance = np.abs(size - np.abs(np.log(listed))[:, None] * [1, 2]).min(axis=1)
        if score > _SPLIT and (distance < tolerance).any():
            ratio = listed[distance.argmin()]
            return "split fault", (
                f"{self._step(place)}: as a split does that is listed within {LASTING} sessions of it ({ratio:g}), on "
                "another day, with the inverse ratio, or applied to part of the closes"
            )
        spread, volume = self._relative_range(place), self._relative_volume(place)
        is_far = score > _BEYOND and not spread > _CALM[0]
        if self._is_unit(place, deviation) and (spread <= _CALM[0] or score > _BEYOND):
            return "unit fault", f"{self._step(place)}: another unit?"
        ratio = _SPLITS[np.abs(np.log(_SPLITS) - size).argmin()]
        is_split = abs(np.log(ratio) - size) < tolerance
        is_very_calm = spread <= _VERY_CALM[0] and not volume > _VERY_CALM[1]
        least = _SPLIT_ALONE if np.isnan(volume) else _SPLIT
        is_quiet = spread <= _CALM[0] and volume <= _CALM[1]
        if not ((is_split and is_very_calm and score > least) or (is_quiet and score > _ALONE) or is_far):
            return None
        shares = f"{ratio:g} for 1" if self.growth[place] < 0 else f"1 for {ratio:g}"
        what = f"about {shares}, and no such split is listed" if is_split else "nothing listed explains it"
        lasted = "and it lasted" if place + LASTING < len(self.close) else "not taken back so far"
        return "unexplained leap", f"{self._step(place)}, {lasted}: {what}, and {_why(spread, volume, score)}"

    def _step(self, place: int) -> str:
        return describe_step(
            self.close[place - 1], self.close[place], self.dividend[place], self.split[place]
        )


def _why(spread: float, volume: float, score: float) -> str:
    """Return the evidence against a move of the market, of what was measured."""
    if spread <= _CALM[0] and volume <= _CALM[1]:
        return "its range and volume are usual"
    if spread <= _CALM[0] and np.isnan(volume):
        return "its range is usual (no volume is given)"
    return f"it is {score:.0f} usual returns" + (" (no range is given)" if np.isnan(spread) else "")


def usual_return(growth: Floats, place: int) -> float:
    """Return the usual size of one symbol's log returns (`find_leaps`), around `place` or on the whole."""
    size = np.abs(growth)
    return max(_NORMAL * _median(size[_around(place)]), _NORMAL * _median(size), _MIN_DEVIATION)


def _around(place: int) -> slice:
    return slice(max(place - _AROUND, 0), place + _AROUND + 1)


def _median(values: Floats) -> float:
    """Return the median of the values above zero, 0 without any: prices of whole ticks often stay where they are."""
    known = values[values > 1e-9]
    return float(np.median(known)) if len(known) else 0.0
