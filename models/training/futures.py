"""A Future for work whose last step has to run in the thread that asks for its result."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["DeferredFuture"]

T = TypeVar("T")


class DeferredFuture(Future[T]):
    """A Future whose last step runs in the thread that calls `result`: TensorFlow and progress bars need that thread.

    Args:
        finish: Waits for the submitted work and returns the value.
        close: Releases what the submitted work still holds.
    """

    def __init__(self, finish: Callable[[], T], close: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._finish: Callable[[], T] | None = finish
        self._close = close

    def result(self, timeout: float | None = None) -> T:
        """Return the value; the first call computes it and does not time out."""
        finish, self._finish = self._finish, None
        if finish:
            try:
                self.set_result(finish())
            except BaseException as error:
                self.set_exception(error)
                raise
        return super().result(timeout)

    def cancel(self) -> bool:
        """Cancel the work that has not started and release its files."""
        self._close()
        self._finish = None
        return super().cancel()
