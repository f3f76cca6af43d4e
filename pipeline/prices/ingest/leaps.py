"""Leaps inside one history: closes that jump as faults do, and not as markets do.

A market that moves by a quarter trades many times its usual volume over many times its usual range. A fault (a split
that is not listed, another unit, one wrong row) scales whole bars: the range stays calm, the volume usual, and often
the leap is taken back. Measured on 487 US stocks of 1999 to 2015: 932 closes moved by more than a quarter, 14 are
named, and 13 of these are faults (wrong bars, splits, and distributions that are not listed); tests/bench counts them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["LASTING", "find_leaps", "find_ways_back", "log_growth", "symbol_slices", "usual_return"]

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
# Sizes in usual returns: of a spike over one session and over several, of a lasting leap with the factor of a split, of
# any other lasting leap, and of one that no volume explains.
_SPIKE, _LONG_SPIKE, _SPLIT, _ALONE, _BEYOND = 12, 10, 8, 15, 40
# A calm bar, and a very calm one: range and volume as multiples of the usual ones.
_CALM, _VERY_CALM = (4.0, 4.0), (2.5, 2.0)
# Of a symbol with more moves of a quarter than this, only those beyond its usual ones are looked at.
_MANY = 50
_COLUMNS = ["symbol", "session", "rule", "detail", "is_lasting"]


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


def find_ways_back(growth: Floats, symbols: "pd.Series[str]") -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return, by row, whether its leap is taken back within `LASTING` sessions, and whether it takes one back.

    Args:
        growth: The log returns (`log_growth`).
        symbols: The symbol of each row, rows of one symbol together.
    """
    codes, level = pd.factorize(symbols)[0], np.nancumsum(growth)
    is_taken_back, takes_back = np.zeros((2, len(growth)), dtype=bool)
    for later in range(1, min(LASTING, len(growth) - 1) + 1):
        leap, step = growth[:-later], growth[later:]
        remainder = level[later:] - level[:-later] + leap
        is_back = (codes[later:] == codes[:-later]) & _is_way_back(leap, step, remainder)
        is_taken_back[:-later] |= is_back
        takes_back[later:] |= is_back
    return is_taken_back, takes_back


def _is_way_back(leap: Floats, step: Floats, remainder: Floats) -> NDArray[np.bool_]:
    size = np.abs(leap)
    return np.asarray(
        (leap * step < 0) & (np.abs(step) > _STEP * size) & (np.abs(remainder) < _REMAINDER * size)
    )


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

    Args:
        rows: symbol, session, open, high, low, close, volume, dividend, split, as traded, ascending in session within
            each symbol.

    Returns:
        symbol, session, rule, detail, is_lasting (whether it was not taken back).
    """
    growth = log_growth(rows)
    is_large = np.abs(growth) > _MIN
    whole = _History.of(rows, growth)
    found = [
        (rows["symbol"].iloc[place], rows["session"].iloc[place], leap.rule, leap.detail, not leap.back)
        for part in symbol_slices(rows)
        if is_large[part].any()
        for leap in whole.part(part).leaps()
        for place in [part.start + leap.place]
    ]
    return pd.DataFrame(found, columns=_COLUMNS).astype({"is_lasting": bool})


@dataclass(frozen=True)
class _Leap:
    """A leap at `place`, and the sessions until it was taken back (0: never)."""

    place: int
    back: int
    rule: str
    detail: str


@dataclass(frozen=True, eq=False)
class _History:
    """The closes, log returns, log ranges, volumes, turnovers and split ratios of rows, each [row]."""

    close: Floats
    growth: Floats
    spread: Floats
    volume: Floats
    turnover: Floats
    split: Floats

    @classmethod
    def of(cls, rows: pd.DataFrame, growth: Floats) -> "_History":
        close, high, low, volume, split = (
            rows[name].to_numpy(float) for name in ("close", "high", "low", "volume", "split")
        )
        return cls(close, growth, np.log(high / low), volume, volume * close, split)

    def part(self, places: slice) -> "_History":
        return _History(*(getattr(self, field.name)[places] for field in fields(self)))

    def leaps(self) -> Iterator[_Leap]:
        """Yield the leaps; the way back of a spike is none of its own."""
        size, done = np.abs(self.growth), 0
        places = np.flatnonzero(size > _MIN)
        if len(places) > _MANY:
            places = places[size[places] > _SPLIT * _NORMAL * _median(size)]
        for place in places.tolist():
            if place <= done:
                continue
            back = self._back(place)
            others = self.growth.copy()
            others[[place, place + back]] = np.nan
            here, deviation = _around(place), usual_return(others, place)
            if back and self._is_spike(place, back, size[place] / deviation, here):
                done = place + back
                yield _Leap(place, back, *self._describe_spike(place, back, deviation))
            elif lasting := self._lasting(place, deviation, here):
                yield _Leap(place, 0, *lasting)

    def _back(self, place: int) -> int:
        """Return the number of sessions until the leap was taken back, 0 where it was not."""
        leap, steps = self.growth[place], self.growth[place + 1 : place + 1 + LASTING]
        is_back = _is_way_back(np.full(len(steps), leap), steps, leap + np.cumsum(steps))
        return int(is_back.argmax()) + 1 if is_back.any() else 0

    def _is_spike(self, place: int, back: int, score: float, here: slice) -> bool:
        if back == 1 and score > _SPIKE:
            return True
        return score > _LONG_SPIKE and (self._is_calm(place, here, _CALM[0]) or score > 2 * _LONG_SPIKE)

    def _is_calm(self, place: int, here: slice, limit: float) -> bool:
        """Whether the bar's range is usual; without ranges (funds) every bar is calm."""
        return not self.spread[place] > limit * max(_median(self.spread[here]), _MIN_DEVIATION)

    def _is_quiet(self, place: int, here: slice, limit: float) -> bool:
        """Whether shares or their value traded as usual; without volumes every bar is quiet.

        A split that is not listed multiplies the shares, another unit the value: one of the two stays usual.
        """
        usual = [_median(values[here]) for values in (self.volume, self.turnover)]
        now = [values[place] for values in (self.volume, self.turnover)]
        return not all(one > limit * other > 0 for one, other in zip(now, usual, strict=True))

    def _describe_spike(self, place: int, back: int, deviation: float) -> tuple[str, str]:
        rule = "unit fault" if self._is_unit(place, deviation) else "spike"
        return (
            rule,
            f"{self._step(place)}, and back within {back} session{'s' if back > 1 else ''}: a wrong bar?",
        )

    def _is_unit(self, place: int, deviation: float) -> bool:
        return bool(abs(abs(self.growth[place]) - _UNIT) < max(_UNIT_MOVE, 3 * deviation))

    def _lasting(self, place: int, deviation: float, here: slice) -> tuple[str, str] | None:
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
        is_calm, is_quiet = self._is_calm(place, here, _CALM[0]), self._is_quiet(place, here, _CALM[1])
        if self._is_unit(place, deviation) and is_calm:
            return "unit fault", f"{self._step(place)}: another unit?"
        ratio = _SPLITS[np.abs(np.log(_SPLITS) - size).argmin()]
        is_split = abs(np.log(ratio) - size) < tolerance
        very = self._is_calm(place, here, _VERY_CALM[0]) and self._is_quiet(place, here, _VERY_CALM[1])
        if not (
            (is_split and very and score > _SPLIT)
            or (is_calm and is_quiet and score > _ALONE)
            or (is_calm and score > _BEYOND)
        ):
            return None
        what = (
            f"about {ratio:g} for 1, and no such split is listed"
            if is_split
            else "nothing listed explains it"
        )
        why = "its range and volume are usual" if is_quiet else f"it is {score:.0f} usual returns"
        return "unexplained leap", f"{self._step(place)}, and it lasted: {what}, and {why}"

    def _step(self, place: int) -> str:
        factor = np.exp(self.growth[place])
        return f"the close went from {self.close[place - 1]:.6g} to {self.close[place]:.6g} (x {factor:.4g})"


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
