"""The number of CPU cores that this process may use."""

from joblib import cpu_count

__all__ = ["count_cores"]


def count_cores() -> int:
    """Return the number of cores that this process may use: its CPU affinity, a container's quota, or all there are.

    The environment variable LOKY_MAX_CPU_COUNT lowers it further.
    """
    return int(cpu_count())
