"""Volume that a source does not report: it says 0 on every bar of a symbol, and that is not a symbol without trades.

Funds, currencies and many indices are like that. Stored as missing, such a volume leaves the bars traded, and labelled;
a volume of 0 among others does not (features.panel).
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline.sources import Fetched

__all__ = ["Volumes", "blank_unreported"]


@dataclass(frozen=True)
class Volumes:
    """Answers in which a volume that the source does not report is missing, and the symbols that have none at all."""

    answers: list[Fetched]
    unreported: list[str]


def blank_unreported(
    answers: Sequence[Fetched], whole: AbstractSet[str], stored: pd.DataFrame | None = None
) -> Volumes:
    """Return the answers with NaN in place of a volume that is 0 on every bar.

    Args:
        answers: Answers with the outcome ok.
        whole: The symbols whose answer is the whole history; a few zeros of a recent part may be days without trades.
        stored: symbol and volume of the stored bars: in part of a history a volume of 0 is not reported where the
            symbol's stored bars have none either.
    """
    known_without = set[str]()
    if stored is not None and not stored.empty:
        has_volume = stored["volume"].notna().groupby(stored["symbol"]).any()
        known_without = set(has_volume.index[~has_volume])
    checked, unreported = [], []
    for answer in answers:
        volume = answer.bars["volume"].to_numpy()
        if (answer.symbol in whole or answer.symbol in known_without) and not np.nan_to_num(volume).any():
            unreported.append(answer.symbol)
            if not np.isnan(volume).all():
                answer = replace(answer, bars=answer.bars.assign(volume=np.nan))
        checked.append(answer)
    return Volumes(checked, unreported)
