"""Seed ensembles of recurrent networks: logits averaged, then calibrated, with a band from their spread."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.calibration import Calibration, Calibrator, fit_calibrator, read_calibrator
from models.errors import ModelError
from models.members import Members, load_members
from models.prediction import Prediction, on_panel
from models.recurrent import Network, build_deployable, count_parameters
from models.saved import METADATA, read_metadata, write_metadata, writing
from models.scaling import fit_scaling
from models.training import Epoch, Examples, Trainer, Training
from models.windows import (
    check_panel,
    closed_up,
    example_spans,
    first_session,
    labelled_rows,
    share_of_ups,
    start_of_run,
)

__all__ = ["BAND", "RecurrentEnsemble", "RecurrentModel", "load"]

BAND: Final = 1.64
"""Half width of the band in standard deviations of the members' logits: 90% of a normal spread."""


@dataclass(frozen=True)
class RecurrentEnsemble:
    """A fitted ensemble.

    Attributes:
        network: What each member is.
        training: How each was trained.
        seeds: One a member.
        members: Their weights.
        calibrator: From the members' mean logit to p_up, and to a side.
        base_rate: Share of ups among the training rows, [horizon].
        history: Every epoch of every member.
        start: The session of the block that the network is run from, from a state of zero; None: windows need no run.
            Whoever saves the model has to keep which session that was: the blocks that a loaded one reads begin there.
        extra: What the caller saved with the model.
    """

    network: Network
    training: Training
    seeds: tuple[int, ...]
    members: Members = field(repr=False)
    calibrator: Calibrator
    base_rate: NDArray[np.float64]
    history: list[Epoch] = field(repr=False)
    start: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def first_session(self, row: int) -> int:
        """Return the first session that the forecasts from session `row` on read, in the block of the fit."""
        return first_session(self.start, self.network.lookback, row)

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The least |p_up - 0.5| that takes a side, [horizon]."""
        return np.array(self.calibrator.abstention.threshold)

    def predict(self, x: NDArray[np.float32], mask: NDArray[np.bool_]) -> Prediction:
        """Forecast every row that has a full valid window, or in sequence mode `lookback` valid sessions behind it.

        Args:
            x: Unscaled features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.

        Returns:
            p_up, low and high, float64 [symbol, session, horizon]: the calibrated probability at the members'
            mean logit, and at that mean -+ BAND standard deviations of the members' logits.

        Raises:
            ModelError: if the shapes do not fit, or a valid row is not finite.
        """
        check_panel(x, mask, self.network.features)
        usable = self.members.usable(mask)
        logits = self.members.logits(x, mask, closed_up(usable)).astype(np.float64)
        middle, reach = logits.mean(axis=0), BAND * _spread(logits)
        p_up, low, high = (self.calibrator.p_up(z) for z in (middle, middle - reach, middle + reach))
        return Prediction(on_panel(p_up, usable), on_panel(low, usable), on_panel(high, usable))

    def save(self, directory: Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write member-<k>.keras and model.json into a new folder, all or nothing.

        Args:
            directory: A folder that does not exist yet, or is empty.
            extra: JSON-ready metadata to keep with the model; by default what it was loaded with.

        Raises:
            ModelError: if the folder holds something already.
        """
        with writing(directory) as draft:
            self.members.save(draft)
            write_metadata(draft, self._metadata(self.extra if extra is None else extra))

    def _metadata(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "family": "recurrent",
            "network": asdict(self.network),
            "parameters": count_parameters(self.network),
            "training": asdict(self.training),
            "seeds": self.seeds,
            "calibrator": self.calibrator.to_json(),
            "base_rate": self.base_rate.tolist(),
            "keras": keras.version(),
            "tensorflow": tf.version.VERSION,
            "jit": True,
            "extra": dict(extra),
            "history": [asdict(epoch) for epoch in self.history],
        }


@dataclass(frozen=True)
class RecurrentModel:
    """A recipe: fits ensembles of one network.

    One instance compiles once and serves any number of fits, one after another.

    Attributes:
        network: What each member is.
        training: How each is trained.
        members: How many; member k has the seed `seed + k`, from 0.
        progress: Called after every epoch.
        calibration: How their mean is calibrated, and when it takes a side.
    """

    network: Network
    training: Training = field(default_factory=Training)
    members: int = 5
    progress: Callable[[Epoch], None] | None = None
    calibration: Calibration = field(default_factory=Calibration)

    def fit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
    ) -> RecurrentEnsemble:
        """Train the members on `train`, stop them on `stop`, calibrate their mean on `calibrate`.

        Args:
            x: Unscaled features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.
            y: float32 [symbol, session, horizon] in {0, 1}; NaN where unknown or not to be used.
            train: Session numbers whose labels are learned and whose rows give the input scale.
            stop: Session numbers that decide when training ends.
            calibrate: Session numbers that set the calibration and the abstention.
            seed: Seed of the first member.

        Raises:
            ModelError: if a range has no usable label, an input is not finite, or training diverges.
        """
        check_panel(x, mask, self.network.features)
        scaling, labels = fit_scaling(x, mask, train), y.reshape(-1, y.shape[-1])
        members = Members(self.network, build_deployable(self.network, scaling), [])
        rows, stop_rows = (
            labelled_rows(members.usable(mask), y, sessions, name)
            for sessions, name in ((train, "train"), (stop, "stop"))
        )
        base_rate, is_joined = share_of_ups(y, rows), self.network.mode == "sequence"
        examples = Examples(
            panel=scaling.apply(x).reshape(-1, x.shape[-1]),
            labels=labels,
            order=closed_up(mask),
            train=example_spans(mask, rows, self.network.lookback, joined=is_joined),
            stop=example_spans(mask, stop_rows, self.network.lookback, joined=is_joined),
            base_rate=base_rate,
        )
        seeds = tuple(range(seed, seed + self.members))
        weights, history = self._train(examples, seeds)
        members = replace(members, weights=weights)
        start = start_of_run(self.network.mode, stop, self.network.lookback)
        calibrator = _calibrate(members, x, mask, y, calibrate, start or 0, base_rate, self.calibration)
        return RecurrentEnsemble(
            self.network, self.training, seeds, members, calibrator, base_rate, history, start
        )

    def _train(
        self, examples: Examples, seeds: tuple[int, ...]
    ) -> tuple[list[list[NDArray[np.float32]]], list[Epoch]]:
        runs = [
            self._trainer.train(examples, seed, member=number, members=len(seeds), progress=self.progress)
            for number, seed in enumerate(seeds, start=1)
        ]
        return [weights for weights, _ in runs], [epoch for _, epochs in runs for epoch in epochs]

    @cached_property
    def _trainer(self) -> Trainer:
        return Trainer(self.network, self.training)


def load(directory: Path) -> RecurrentEnsemble:
    """Return the ensemble that `RecurrentEnsemble.save` wrote; no code in the files is ever run.

    Raises:
        ModelError: naming the file that is missing, damaged or refused.
    """
    metadata = read_metadata(directory)
    try:
        network, seeds = Network(**metadata["network"]), tuple(metadata["seeds"])
        return RecurrentEnsemble(
            network=network,
            training=Training(**metadata["training"]),
            seeds=seeds,
            members=load_members(directory, network, len(seeds)),
            calibrator=read_calibrator(metadata["calibrator"]),
            base_rate=np.array(metadata["base_rate"]),
            history=[Epoch(**epoch) for epoch in metadata["history"]],
            start=0 if network.mode == "sequence" else None,
            extra=metadata["extra"],
        )
    except (KeyError, TypeError, AttributeError) as broken:
        raise ModelError(
            f"this is no description of an ensemble: {broken!r}",
            where=str(directory / METADATA),
            way_out="load it with the version of nextday that saved it, or train again",
        ) from None


def _calibrate(
    members: Members,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    y: NDArray[np.float32],
    sessions: range,
    start: int,
    base_rate: NDArray[np.float64],
    calibration: Calibration,
) -> Calibrator:
    """Calibrate the mean logit on the rows of `sessions`, of a run from `start` as every later forecast's."""
    x, mask, y = x[:, start:], mask[:, start:], y[:, start:]
    inside = range(sessions.start - start, sessions.stop - start)
    rows = labelled_rows(members.usable(mask), y, inside, "calibrate")
    logits, labels = members.logits(x, mask, rows).mean(axis=0), y.reshape(-1, y.shape[-1])[rows]
    return fit_calibrator(logits, labels, base_rate, rows % mask.shape[1], calibration)


def _spread(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation over the members of [member, row, horizon]; zero for a single one."""
    if len(logits) == 1:
        return np.zeros(logits.shape[1:])
    return np.asarray(logits.std(axis=0, ddof=1))
