"""Rows collected from many frames are those of the frames, one after the other."""

import numpy as np
import pandas as pd
import pytest

from pipeline.forecasting.row_collector import RowCollector

NAMES = pd.CategoricalDtype(["m", "n"])
SESSIONS = pd.DatetimeIndex(["2018-12-10", "2018-12-11"]).as_unit("us")


def frame(first: float, model: str) -> pd.DataFrame:
    p_up = np.array([first, first + 0.1])
    model_of = pd.Categorical([model] * 2, dtype=NAMES)
    return pd.DataFrame(
        {"model": model_of, "as_of": SESSIONS, "fold": np.int16(1), "p_up": p_up, "low": [0.1, np.nan]}
    )


def test_the_rows_are_those_of_all_frames_in_their_order_and_keep_their_types() -> None:
    frames = [frame(0.1, "n"), frame(0.5, "m"), frame(0.7, "n").iloc[:1], frame(0.7, "n").iloc[:0]]
    every, some = RowCollector(), RowCollector(["p_up", "model"])
    for each in frames:
        every.add(each)
        some.add(each)
    joined = pd.concat(frames, ignore_index=True)
    pd.testing.assert_frame_equal(every.join(), joined)
    pd.testing.assert_frame_equal(some.join(), joined[["p_up", "model"]])


def test_one_frame_is_itself_and_what_is_collected_does_not_change_with_it() -> None:
    collector, rows = RowCollector(), frame(0.1, "m")
    collector.add(rows)
    rows.loc[0, "p_up"] = 0.9
    pd.testing.assert_frame_equal(collector.join(), frame(0.1, "m"))


def test_another_type_or_other_categories_are_refused() -> None:
    collector = RowCollector()
    collector.add(frame(0.1, "m"))
    others = {
        "model": pd.Categorical(["m", "m"], categories=["n", "m"]),
        "p_up": np.array([1, 2], np.float32),
    }
    for name, values in others.items():
        with pytest.raises(TypeError, match=f"{name} is .* in the frames before"):
            collector.add(frame(0.1, "m").assign(**{name: values}))
