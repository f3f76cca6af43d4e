"""Fit a small ensemble for each symbol, with its own input scale, base rate and calibration.

A symbol's model depends on no other symbol of the block.
"""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibrator import Calibration, fit_calibrator, recentre
from models.ensembles.agreement import measure_agreement
from models.ensembles.members import Members, calibration_rows, keep_last_good
from models.ensembles.per_symbol_fitted import SymbolEnsemble, SymbolMember
from models.errors import ModelError
from models.networks.network import Network
from models.sample_weights import Weigh
from models.scaling import FitScaling, Scaling, fit_scaling
from models.training.examples import Refit, prepare_examples
from models.training.futures import DeferredFuture
from models.training.jobs import Job, Progress, submit_all
from models.training.trainer import DivergenceError, Epoch, Examples, Run, Training, Weights
from models.windows import check_panel, start_of_run, usable_rows

__all__ = ["LEAST", "SymbolModel"]

LEAST: Final = {"train": 100, "stop": 20, "calibrate": 20}
"""Labels that a symbol needs in each range to get a model."""

Block = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]
"""Inputs, mask and labels: x, mask, y of `fit`."""


class _Scale(NamedTuple):
    """The part of a symbol's training data that its fit keeps."""

    scaling: Scaling
    base_rate: NDArray[np.float64]
    refit_base_rate: NDArray[np.float64]


@dataclass(frozen=True)
class SymbolModel:
    """Fits an ensemble of one small network for each symbol.

    Attributes:
        network: The architecture of each member.
        training: The training settings.
        members: Number of members per symbol; member k has the seed `seed + k`, k from 0.
        progress: Called after every epoch; members are numbered over all symbols.
        executor, folder, rescue, checkpoints: As for a pooled model.
        start: Ensembles of an earlier fit on the same block to start from; a symbol without one starts from random
            initialization.
        calibration: How the mean logit of a symbol's members is calibrated, and when a direction is issued.
        scale: Gives the input scale of each symbol.
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
    start: SymbolEnsemble | None = None
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
    ) -> SymbolEnsemble:
        """Fit each symbol's ensemble on its own rows, see RecurrentModel.fit, also on the second fit.

        Raises:
            DivergenceError: if the loss of a member is no finite number; its last good weights are in `rescue`.
            ModelError: if no symbol has labels enough, an input is not finite, or `start` knows too much.
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
    ) -> DeferredFuture[SymbolEnsemble]:
        """Submit what `fit` does, see RecurrentModel.submit.

        Raises:
            ModelError: if no symbol has labels enough, an input is not finite, or `start` knows too much.
        """
        check_panel(x, mask, self.network.features)
        left_out = self._left_out(mask, y, {"train": train, "stop": stop, "calibrate": calibrate})
        kept = [symbol for symbol in range(len(x)) if symbol not in left_out]
        block = (x, mask, y)
        second = None if refit is None else Refit(range(train.start, calibrate.stop), refit)
        prepared = [self._prepare(symbol, block, train, stop, second) for symbol in kept]
        seeds = tuple(range(seed, seed + self.members))
        trainings = submit_all(
            [examples for _, examples in prepared],
            self._jobs(kept, seeds, train),
            executor=self.executor,
            folder=self.folder,
            progress=self.progress,
            checkpoints=self.checkpoints,
        )
        scales = [
            _Scale(scaling, examples.base_rate, examples.refit_base_rate) for scaling, examples in prepared
        ]

        def finish() -> SymbolEnsemble:
            try:
                runs = trainings.result()
            except DivergenceError as lost:
                number = (lost.member - 1) // len(seeds)
                lost.row = kept[number]
                rescue = self.rescue and self.rescue / f"symbol-{kept[number] + 1}"
                raise keep_last_good(lost, self.network, scales[number].scaling, rescue) from None
            by_symbol = [runs[first : first + len(seeds)] for first in range(0, len(runs), len(seeds))]
            return self._assemble(by_symbol, scales, kept, left_out, seeds, block, stop, calibrate)

        return DeferredFuture(finish, trainings.cancel)

    def _prepare(
        self, symbol: int, block: Block, train: range, stop: range, refit: Refit | None
    ) -> tuple[Scaling, Examples]:
        """Return the input scale and the examples of one symbol's fit."""
        own = refit and refit.only(symbol)
        return prepare_examples(
            self.network,
            *_only(symbol, block),
            train=train,
            stop=stop,
            refit=own,
            scale=self.scale,
            weigh=self.weigh,
        )

    def _assemble(
        self,
        runs: list[list[Run]],
        scales: list[_Scale],
        symbols: list[int],
        left_out: Mapping[int, str],
        seeds: tuple[int, ...],
        block: Block,
        stop: range,
        calibrate: range,
    ) -> SymbolEnsemble:
        """Return the ensembles of trained members, each calibrated on its symbol's rows."""
        start = start_of_run(self.network.mode, stop, self.network.lookback)
        calibrated = [
            self._calibrate(scale, own, _only(symbol, block), calibrate, start or 0)
            for scale, symbol, own in zip(scales, symbols, runs, strict=True)
        ]
        place = {symbol: number for number, symbol in enumerate(symbols)}
        ensemble = SymbolEnsemble(
            network=self.network,
            training=self.training,
            seeds=seeds,
            models=tuple(first for first, _ in calibrated),
            places=tuple(place.get(symbol, -1) for symbol in range(len(block[0]))),
            left_out=left_out,
            history=_mean_epochs(runs),
            start=start,
            learned_before=stop.stop,
        )
        if not len(scales[0].refit_base_rate):
            return ensemble
        again = tuple(second for _, second in calibrated)
        return replace(ensemble, models=again, learned_before=calibrate.stop, first_fit=ensemble)

    def _left_out(
        self, mask: NDArray[np.bool_], y: NDArray[np.float32], ranges: Mapping[str, range]
    ) -> dict[int, str]:
        """Return the reason for each symbol without a model, by row.

        Raises:
            ModelError: no symbol has labels enough.
        """
        run = mask.copy()
        run[:, : start_of_run(self.network.mode, ranges["stop"], self.network.lookback) or 0] = False
        reasons: dict[int, str] = {}
        for name, part in ranges.items():
            # The network is run over the calibration range from a late start; training reads the whole history.
            read = run if name == "calibrate" else mask
            usable = usable_rows(read, self.network.lookback, self.network.mode)
            known = usable[:, part.start : part.stop, None] & ~np.isnan(y[:, part.start : part.stop])
            counts = known.sum(axis=1).min(axis=1)
            for symbol in np.flatnonzero(counts < LEAST[name]):
                text = f"{counts[symbol]} labels in the {name} range, and {LEAST[name]} are the least"
                reasons.setdefault(int(symbol), text)
        if len(reasons) == len(mask):
            raise ModelError(
                f"no symbol has labels enough for a model of its own: {reasons[0]}",
                where=", ".join(f"{name}: {len(part)} sessions" for name, part in ranges.items()),
                fix='lengthen those ranges or the history, or set [model] scope = "pooled"',
            )
        return reasons

    def _jobs(self, symbols: list[int], seeds: tuple[int, ...], train: range) -> list[Job]:
        """Return a job for every member of each symbol."""
        return [
            Job(
                self.network,
                self.training,
                seed,
                member=number * len(seeds) + place + 1,
                members=len(symbols) * len(seeds),
                examples=number,
                start=self._known(symbol, place, seeds, train),
            )
            for number, symbol in enumerate(symbols)
            for place, seed in enumerate(seeds)
        ]

    def _known(self, symbol: int, member: int, seeds: tuple[int, ...], train: range) -> Weights | None:
        """Return the weights that a member starts from; None: random initialization."""
        if self.start is None:
            return None
        if not self.start.may_start(train):
            raise ModelError(
                f"a fit on sessions before {train.stop} cannot go on from weights that know later labels",
                fix="start it from random initialization, or from a fit that ended earlier",
            )
        if (self.start.network, self.start.seeds) != (self.network, seeds):
            raise ModelError("a fit can go on from the same network and seeds only")
        place = self.start.places[symbol]
        return self.start.models[place].weights[member] if place >= 0 else None

    def _calibrate(
        self, scale: _Scale, runs: list[Run], block: Block, calibrate: range, start: int
    ) -> tuple[SymbolMember, SymbolMember]:
        """Return a symbol's ensembles of the first and of the second fit; the same where there is one fit."""
        x, mask, y = block
        weights = [run.weights for run in runs]
        members = Members(self.network, scale.scaling, weights)
        logits, labels, sessions = calibration_rows(members, x, mask, y, calibrate, start)
        mean = logits.mean(axis=0)
        first = SymbolMember(
            scaling=scale.scaling,
            weights=weights,
            calibrator=fit_calibrator(mean, labels, scale.base_rate, sessions, self.calibration),
            base_rate=scale.base_rate,
            agreement=measure_agreement(logits),
        )
        if not len(scale.refit_base_rate):
            return first, first
        calibrator = recentre(
            first.calibrator, mean, labels, scale.base_rate, scale.refit_base_rate, self.calibration
        )
        refitted = [run.refitted for run in runs]
        return first, replace(first, weights=refitted, calibrator=calibrator, base_rate=scale.refit_base_rate)


def _only(symbol: int, block: Block) -> Block:
    x, mask, y = block
    rows = slice(symbol, symbol + 1)
    return x[rows], mask[rows], y[rows]


def _mean_epochs(runs: list[list[Run]]) -> list[Epoch]:
    """Return the epochs of each member, each figure the mean over the symbols that still trained.

    The epochs of thousands of members would be too many to read.
    """
    members = len(runs[0])
    every = [
        replace(epoch, member=member, members=members)
        for own in runs
        for member, run in enumerate(own, start=1)
        for epoch in run.epochs
    ]
    every.sort(key=lambda epoch: (epoch.member, epoch.epoch))
    grouped = groupby(every, key=lambda epoch: (epoch.member, epoch.epoch))
    return [_mean_epoch(list(those)) for _, those in grouped]


def _mean_epoch(epochs: list[Epoch]) -> Epoch:
    return replace(
        epochs[0],
        loss=float(np.mean([epoch.loss for epoch in epochs])),
        hit_rate=float(np.mean([epoch.hit_rate for epoch in epochs])),
        stop_loss=float(np.mean([epoch.stop_loss for epoch in epochs])),
        stop_hit_rate=float(np.mean([epoch.stop_hit_rate for epoch in epochs])),
        gradient_norm=float(np.mean([epoch.gradient_norm for epoch in epochs])),
    )
