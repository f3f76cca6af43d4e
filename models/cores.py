"""How many cores there are to compute on."""

import os

__all__ = ["count_cores"]


def count_cores() -> int:
    """Return how many cores this process may use: a container or a service may have been given fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
