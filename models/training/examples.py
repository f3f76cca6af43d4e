"""The examples of a fit: its scaled inputs, and the places of windows or spans in them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.networks.network import Network
from models.sample_weights import Weigh
from models.scaling import FitScaling, Scaling, fit_scaling
from models.training.trainer import Examples
from models.windows import closed_up, example_spans, labelled_rows, share_of_ups, usable_rows

__all__ = ["Refit", "prepare_examples"]


@dataclass(frozen=True)
class Refit:
    """What a second fit learns from, once stopping and calibration have used their sessions.

    Attributes:
        sessions: All session numbers before the test, from the first to train on.
        y: Labels as of the first fit, float32 [symbol, session, horizon], but without those of the calibrate range that
            are not to be learned from.
    """

    sessions: range
    y: NDArray[np.float32]

    def only(self, symbol: int) -> "Refit":
        """Return the part of one symbol."""
        return replace(self, y=self.y[symbol : symbol + 1])


def prepare_examples(
    network: Network,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    y: NDArray[np.float32],
    *,
    train: range,
    stop: range,
    refit: Refit | None = None,
    scale: FitScaling = fit_scaling,
    weigh: Weigh | None = None,
) -> tuple[Scaling, Examples]:
    """Return the input scale of the rows of `train`, and the examples of a fit on `train` and `stop`.

    Args:
        network: The network to fit.
        x: Unscaled features, float32 [symbol, session, feature].
        mask: [symbol, session], true where the row is valid.
        y: float32 [symbol, session, horizon] in {0, 1}; NaN where unknown or not to be used.
        train: Session numbers to train on.
        stop: Session numbers that decide when training ends.
        refit: The sessions and labels of a second fit; None: there is none.
        scale: Gives the input scale.
        weigh: Gives each row's weight in what is learned; None: all count the same.

    Raises:
        ModelError: a range has no usable label.
    """
    usable = usable_rows(mask, network.lookback, network.mode)
    rows, stop_rows = (
        labelled_rows(usable, y, sessions, name) for sessions, name in ((train, "train"), (stop, "stop"))
    )
    scaling, is_joined = scale(x, mask, train), network.mode == "sequence"
    panel = scaling.apply(x)
    # Short chunks are padded with arbitrary rows; NaN there would remain NaN under a weight of zero.
    panel[~mask] = 0
    examples = Examples(
        panel=panel.reshape(-1, x.shape[-1]),
        labels=(y if refit is None else refit.y).reshape(-1, y.shape[-1]),
        order=closed_up(mask),
        train=example_spans(mask, rows, network.lookback, joined=is_joined),
        stop=example_spans(mask, stop_rows, network.lookback, joined=is_joined),
        base_rate=share_of_ups(y, rows),
    )
    if weigh is not None:
        examples = replace(examples, weights=weigh(x, mask, train).reshape(-1))
    if refit is None:
        return scaling, examples
    every = labelled_rows(usable, refit.y, refit.sessions, "refit")
    return scaling, replace(
        examples,
        refit=example_spans(mask, every, network.lookback, joined=is_joined),
        refit_base_rate=share_of_ups(refit.y, every),
    )
