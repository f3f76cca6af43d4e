"""The reasons for a bar that is missing tonight."""

import pandas as pd

from flows.prices.missing import _refused

TONIGHT = pd.Timestamp("2024-03-08")


def test_a_refused_row_is_told_with_the_rules_that_drop_it_and_their_own_detail() -> None:
    found = pd.DataFrame(
        [
            ("A", TONIGHT, "open or close lies outside low..high", "3 bars, by 2.00% at most"),
            ("A", TONIGHT, "column not read", "split ratio"),
            ("A", TONIGHT, "low lies above high", "open 1, high 2, low 3, close 4"),
            ("A", TONIGHT, "volume: it cannot be negative", "open 1, high 2, low 3, close 4"),
            ("B", TONIGHT, "action not read", "the split 1:0 is not read"),
            ("C", TONIGHT - pd.Timedelta(days=1), "low lies above high", "open 1"),
        ],
        columns=["symbol", "session", "rule", "detail"],
    )
    assert _refused(found, TONIGHT) == {
        "A": "the row of 2024-03-08 is refused: low lies above high; volume: it cannot be negative: "
        "open 1, high 2, low 3, close 4"
    }
    assert _refused(found.head(0), TONIGHT) == {}
