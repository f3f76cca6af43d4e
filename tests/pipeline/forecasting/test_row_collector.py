"""Rows collected from many frames are those of the frames, one after the other."""

import numpy as np
import pandas as pd

from pipeline.forecasting.row_collector import RowCollector

NAMES = pd.CategoricalDtype(["m", "n"])


def frame(first: float, model: str) -> pd.DataFrame:
    p_up = np.array([first, first + 0.1])
    model_of = pd.Categorical([model] * 2, dtype=NAMES)
    return pd.DataFrame({"model": model_of, "fold": np.int16(1), "p_up": p_up, "low": p_up - 0.01})


def test_the_rows_are_those_of_all_frames_in_their_order_and_keep_their_types() -> None:
    frames = [frame(0.1, "n"), frame(0.5, "m"), frame(0.7, "n")]
    every, some = RowCollector(), RowCollector(["p_up", "model"])
    for each in frames:
        every.add(each)
        some.add(each)
    joined = pd.concat(frames, ignore_index=True)
    pd.testing.assert_frame_equal(every.join(), joined)
    pd.testing.assert_frame_equal(some.join(), joined[["p_up", "model"]])


def test_what_is_collected_does_not_change_with_its_frame_and_keeps_no_other_column_alive() -> None:
    collector, rows = RowCollector(["p_up"]), frame(0.1, "m")
    collector.add(rows)
    rows.loc[0, "p_up"] = 0.9
    joined = collector.join()
    assert joined["p_up"].tolist() == [0.1, 0.2]
    collector.add(rows)
    (kept,) = collector._parts["p_up"]
    assert kept.to_numpy().base is None or kept.to_numpy().base.shape[-1] * kept.to_numpy().itemsize <= 16
