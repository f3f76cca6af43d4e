"""The epochs of a training: a progress bar while it runs, a table afterwards."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pandas as pd

from flows.runtime.progress import bar
from flows.runtime.progress_bars import Advance
from models.ensembles.custom_ensemble import Trained
from pipeline.config import Config

__all__ = ["epoch_table", "epochs_shown", "folds_shown", "plan_epochs"]


def plan_epochs(config: Config, symbols: int) -> tuple[int, int]:
    """Return the members of a fit, and their maximum number of epochs, both fits together.

    A custom model reports no epochs: each of its members counts as one. A classifier counts as one in all.
    """
    model, training = config.model, config.training
    if model.is_custom:
        return model.members, 1
    if model.is_classifier:
        return 1, 1
    members = model.members * (symbols if model.scope == "symbol" else 1)
    return members, training.epochs * (2 if training.refit else 1)


@contextmanager
def epochs_shown(title: str, members: int, epochs: int) -> Iterator[Callable[[Any], None]]:
    """Show a bar; yield the callback for every epoch of every member, in whatever order the members train."""
    with bar(title, members * epochs) as advance:
        yield _EpochBar(advance, epochs)


@contextmanager
def folds_shown(
    title: str, folds: int, members: int, epochs: int
) -> Iterator[Callable[[], Callable[[Any], None]]]:
    """Show a bar; yield a function that returns, fold by fold, the callback for every epoch of its members."""
    with bar(title, folds * members * epochs) as advance:
        yield lambda: _EpochBar(advance, epochs)


def epoch_table(fitted: Any, fit_name: str) -> pd.DataFrame:
    """Return the epochs of a fit: fit, member, epoch and the measurements; empty for a custom model."""
    columns = ["member", "epoch", "loss", "hit_rate", "stop_loss", "stop_hit_rate", "gradient_norm"]
    epochs = [asdict(epoch) for epoch in fitted.history]
    return pd.DataFrame(epochs, columns=columns).assign(fit=fit_name)


class _EpochBar:
    """Advances one bar by epochs; a member that stops early completes its share at once."""

    def __init__(self, advance: Advance, epochs: int) -> None:
        self._advance, self._epochs = advance, epochs

    def __call__(self, epoch: Any) -> None:
        if isinstance(epoch, Trained):
            self._advance(f"member {epoch.member} of {epoch.members}")
            return
        for _ in range(self._epochs - epoch.epoch + 1 if epoch.is_last else 1):
            self._advance(_describe_epoch(epoch))


def _describe_epoch(epoch: Any) -> str:
    loss, norm = f"loss {epoch.loss:.4f}", f"gradient norm {epoch.gradient_norm:.2g}"
    number = f"member {epoch.member} of {epoch.members}, epoch {epoch.epoch}"
    if math.isnan(epoch.stop_loss):
        return f"{number} (second fit): {loss}, {norm}"
    return f"{number}: {loss}, stop loss {epoch.stop_loss:.4f}, hit rate {epoch.stop_hit_rate:.3f}, {norm}"
