"""Seed ensembles of recurrent networks: logits averaged, then calibrated, with a band from their spread."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.calibration.calibrator import Calibration, Calibrator, fit_calibrator, recentre
from models.engine import keras
from models.ensembles.agreement import Agreement, banded, measure_agreement
from models.ensembles.members import Members, calibration_rows, keep_last_good
from models.ensembles.model_files import POOLED, write_metadata, writing
from models.errors import ModelError
from models.networks.network import Network
from models.networks.recurrent import count_parameters
from models.prediction import Prediction, on_panel
from models.sample_weights import Weigh
from models.scaling import FitScaling, Scaling, fit_scaling
from models.training.examples import Refit, prepare_examples
from models.training.futures import DeferredFuture
from models.training.jobs import Job, Progress, submit_all
from models.training.trainer import DivergenceError, Epoch, Run, Training, Weights
from models.windows import check_panel, closed_up, first_session, start_of_run

__all__ = ["RecurrentEnsemble", "RecurrentModel"]


@dataclass(frozen=True)
class RecurrentEnsemble:
    """A fitted ensemble.

    Attributes:
        network: The architecture of each member.
        training: The training settings of each member.
        seeds: One per member.
        members: Their weights.
        calibrator: Maps the members' mean logit to p_up and to a direction.
        base_rate: Share of ups among the training rows, [horizon].
        history: Every epoch of every member.
        agreement: How closely the members agree on the calibration rows.
        start: The session, as a row number of the fitted block, from which the network is run with a zero state; None
            in windowed mode. The caller that saves the model stores this session: later blocks have to begin there.
        learned_before: The weights know only labels of sessions before this row of the block: of the train and stop
            ranges, after a second fit of the calibrate range too.
        first_fit: The ensemble before the second fit; None: there was none.
        per_symbol: Whether each symbol has a model of its own; it has not.
        explainable: Whether `models.explain` can inspect it; it can.
        left_out: Why a row of the fitted block has no model; always empty.
    """

    per_symbol: ClassVar[bool] = False
    explainable: ClassVar[bool] = True
    left_out: ClassVar[Mapping[int, str]] = {}

    network: Network
    training: Training
    seeds: tuple[int, ...]
    members: Members = field(repr=False)
    calibrator: Calibrator
    base_rate: NDArray[np.float64]
    history: list[Epoch] = field(repr=False)
    agreement: Agreement
    start: int | None
    learned_before: int
    first_fit: "RecurrentEnsemble | None" = field(default=None, repr=False)

    @property
    def held_out(self) -> "RecurrentEnsemble":
        """The ensemble of the first fit, which has not learned from the calibrate range; it may be this one."""
        return self.first_fit or self

    def arranged(self, rows: Sequence[int]) -> "RecurrentEnsemble":
        """Return the ensemble for blocks whose symbols are the rows `rows` of the fitted one: itself, it is pooled."""
        return self

    def first_session(self, row: int) -> int:
        """Return the first session that forecasts from session `row` on read, in the block of the fit."""
        return first_session(self.start, self.network.lookback, row)

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The least |p_up - 0.5| at which a direction is issued, [horizon]."""
        return np.array(self.calibrator.abstention.threshold)

    def may_start(self, train: range) -> bool:
        """Return whether a fit on the sessions `train` of the same block may start from these weights.

        It may if they know no label from after its training range.
        """
        return self.learned_before <= train.stop

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
        logits = self.members.logits(x, mask, closed_up(usable))
        return Prediction(*(on_panel(self.calibrator.p_up(z), usable) for z in banded(logits)))

    def save(self, directory: Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write member-<k>.keras and model.json into a new folder, all or nothing.

        Args:
            directory: A folder that does not exist yet, or is empty.
            extra: JSON-ready metadata to keep with the model.

        Raises:
            ModelError: if the folder holds something already.
        """
        with writing(directory) as draft:
            self.members.save(draft)
            write_metadata(draft, self._metadata(extra or {}))

    def _metadata(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "family": POOLED,
            "network": self.network.to_json(),
            "parameters": count_parameters(self.network),
            "training": self.training.to_json(),
            "seeds": self.seeds,
            "calibrator": self.calibrator.to_json(),
            "base_rate": self.base_rate.tolist(),
            "agreement": asdict(self.agreement),
            "keras": keras.version(),
            "tensorflow": tf.version.VERSION,
            "jit": True,
            "extra": dict(extra),
            "history": [asdict(epoch) for epoch in self.history],
        }


@dataclass(frozen=True)
class RecurrentModel:
    """Fits ensembles of one network.

    A process compiles the network once, for any number of consecutive fits.

    Attributes:
        network: The architecture of each member.
        training: The training settings.
        members: Number of members; member k has the seed `seed + k`, k from 0.
        progress: Called after every epoch.
        executor: Trains the members in parallel: any executor of concurrent.futures whose processes can import nextday;
            default: this process, one after another. The results do not depend on it.
        folder: For the files from which an executor's processes read the training data; default: the system's
            temporary folder.
        rescue: A folder for the last good weights of a member whose training diverges.
        checkpoints: A folder that keeps every trained member: one that it holds is not trained again.
        start: An ensemble of an earlier fit on the same block: each member starts from the weights of the member with
            its seed, instead of from random initialization.
        calibration: How the mean logit is calibrated, and when a direction is issued.
        scale: Gives the input scale.
        weigh: Gives each row's weight in what is learned; None: all count the same.
    """

    network: Network
    training: Training = field(default_factory=Training)
    members: int = 5
    progress: Progress | None = None
    executor: Executor | None = None
    folder: Path | None = None
    rescue: Path | None = None
    checkpoints: Path | None = None
    start: RecurrentEnsemble | None = None
    calibration: Calibration = field(default_factory=Calibration)
    scale: FitScaling = fit_scaling
    weigh: Weigh | None = None

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
        refit: NDArray[np.float32] | None = None,
    ) -> RecurrentEnsemble:
        """Train the members on `train`, stop them on `stop`, calibrate their mean on `calibrate`.

        With `refit` every member is then trained again from the beginning, for as many epochs as were best, on all
        three ranges, with the input scale of `train`. The slope of the calibration is kept; a curve that is centred on
        the base rate is centred on that of all three ranges.

        Args:
            x: Unscaled features, float32 [symbol, session, feature].
            mask: [symbol, session], true where the row is valid.
            y: float32 [symbol, session, horizon] in {0, 1}; NaN where unknown or not to be used.
            train: Session numbers whose labels are learned and whose rows give the input scale.
            stop: Session numbers that decide when training ends.
            calibrate: Session numbers that set the calibration and the abstention.
            seed: Seed of the first member.
            refit: Labels of the second fit, as y without those of `calibrate` that are not to be learned from; None:
                there is no second fit.

        Raises:
            DivergenceError: if the loss of a member is no finite number; its last good weights are in `rescue`.
            ModelError: if a range has no usable label, an input is not finite, or `start` knows too much.
        """
        return self.submit(
            x, mask, y, train=train, stop=stop, calibrate=calibrate, seed=seed, refit=refit
        ).result()

    def submit(
        self,
        x: NDArray[np.float32],
        mask: NDArray[np.bool_],
        y: NDArray[np.float32],
        *,
        train: range,
        stop: range,
        calibrate: range,
        seed: int,
        refit: NDArray[np.float32] | None = None,
    ) -> DeferredFuture[RecurrentEnsemble]:
        """Submit what `fit` does: an executor trains the members while this process does other work.

        Raises:
            ModelError: if a range has no usable label, an input is not finite, or `start` knows too much.
        """
        check_panel(x, mask, self.network.features)
        second = None if refit is None else Refit(range(train.start, calibrate.stop), refit)
        scaling, examples = prepare_examples(
            self.network, x, mask, y, train=train, stop=stop, refit=second, scale=self.scale, weigh=self.weigh
        )
        seeds = tuple(range(seed, seed + self.members))
        known = self._known(seeds, train)
        jobs = [
            Job(self.network, self.training, each, number, len(seeds), start=known.get(each))
            for number, each in enumerate(seeds, start=1)
        ]
        trainings = submit_all(
            [examples],
            jobs,
            executor=self.executor,
            folder=self.folder,
            progress=self.progress,
            checkpoints=self.checkpoints,
        )
        # Kept alone: the closure below would keep all examples in memory.
        base_rates = examples.base_rate, examples.refit_base_rate

        def finish() -> RecurrentEnsemble:
            try:
                runs = trainings.result()
            except DivergenceError as lost:
                raise keep_last_good(lost, self.network, scaling, self.rescue) from None
            return self._assemble(runs, scaling, base_rates, seeds, (x, mask, y), stop, calibrate)

        return DeferredFuture(finish, trainings.cancel)

    def _assemble(
        self,
        runs: list[Run],
        scaling: Scaling,
        base_rates: tuple[NDArray[np.float64], NDArray[np.float64]],
        seeds: tuple[int, ...],
        block: tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]],
        stop: range,
        calibrate: range,
    ) -> RecurrentEnsemble:
        """Return the ensemble of trained members, calibrated."""
        members, (base_rate, refit_base_rate) = (
            Members(self.network, scaling, [run.weights for run in runs]),
            base_rates,
        )
        start = start_of_run(self.network.mode, stop, self.network.lookback)
        logits, labels, sessions = calibration_rows(members, *block, calibrate, start or 0)
        mean = logits.mean(axis=0)
        ensemble = RecurrentEnsemble(
            network=self.network,
            training=self.training,
            seeds=seeds,
            members=members,
            calibrator=fit_calibrator(mean, labels, base_rate, sessions, self.calibration),
            base_rate=base_rate,
            history=[epoch for run in runs for epoch in run.epochs],
            agreement=measure_agreement(logits),
            start=start,
            learned_before=stop.stop,
        )
        if not len(refit_base_rate):
            return ensemble
        return replace(
            ensemble,
            members=Members(self.network, scaling, [run.refitted for run in runs]),
            calibrator=recentre(
                ensemble.calibrator, mean, labels, base_rate, refit_base_rate, self.calibration
            ),
            base_rate=refit_base_rate,
            learned_before=calibrate.stop,
            first_fit=ensemble,
        )

    def _known(self, seeds: tuple[int, ...], train: range) -> dict[int, Weights]:
        """Return the weights to start from, by seed."""
        if self.start is None:
            return {}
        if not self.start.may_start(train):
            raise ModelError(
                f"a fit on sessions before {train.stop} cannot go on from weights that know later labels",
                fix="start it from random initialization, or from a fit that ended earlier",
            )
        if (self.start.network, self.start.seeds) != (self.network, seeds):
            raise ModelError("a fit can go on from the same network and seeds only")
        return dict(zip(seeds, self.start.members.weights, strict=True))
