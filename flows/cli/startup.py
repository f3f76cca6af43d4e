"""Start a command quickly: nothing is collected as garbage while it imports what it needs."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["start_quickly", "working"]


def start_quickly() -> None:
    """Put garbage collection off until `working`, and spare the last one at the end of the process.

    What is imported stays: looking for garbage among it takes a third of the time of a start.
    """
    gc.disable()
    atexit.register(gc.freeze)


@contextmanager
def working() -> Iterator[None]:
    """Show the progress of the block, which comes after all imports: from here on garbage is collected."""
    from flows.runtime.progress import show_progress

    gc.freeze()
    gc.enable()
    with show_progress():
        yield
