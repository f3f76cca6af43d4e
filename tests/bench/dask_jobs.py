"""What a training costs besides itself on a Dask cluster: processor time and bytes a job, and a fit's inputs.

Run as a process of its own: `python -m tests.bench.dask_jobs`.
"""

import pickle
import resource
import time

import numpy as np
from distributed import LocalCluster

from flows.runtime.dask_cluster import join_cluster
from models.networks.network import Network
from models.networks.recurrent import build
from models.training.jobs import Job
from models.training.trainer import Epoch, Run, Training

JOBS, MEGABYTES = 300, 128


def do_nothing(inputs: object, job: Job, result: Run) -> Run:
    """Return the result that a training would have."""
    return result


def used() -> float:
    """Return the processor seconds of this process and of those that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(each)[:2]) for each in who)


def main() -> None:
    """Print the figures; the client and the scheduler share this process, the two workers have their own."""
    network = Network("gru", features=16, lookback=20, units=16)
    weights = build(network, seed=0).get_weights()
    result = Run(weights, [Epoch(1, 5, 1, 40, 0.7, 0.5, 0.7, 0.5, 0.1)] * 20, weights)
    job = Job(network, Training(), 1, 1, 5)
    print(f"bytes a job: {len(pickle.dumps(job)):,} there, {len(pickle.dumps(result)):,} back")
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        join_cluster(cluster.scheduler_address, 10) as (executor, _),
    ):
        small = executor.share(0)  # type: ignore[attr-defined]
        executor.submit(do_nothing, small, job, result).result()
        before, start = used(), time.monotonic()
        futures = [executor.submit(do_nothing, small, job, result) for _ in range(JOBS)]
        for future in futures:
            future.result()
        seconds = time.monotonic() - start
        print(
            f"client and scheduler: {1000 * (used() - before) / JOBS:.1f} CPU ms a job, {JOBS / seconds:.0f} jobs/s"
        )
        before = used()
        large = executor.share(np.random.default_rng(0).random(MEGABYTES * 125_000))  # type: ignore[attr-defined]
        executor.submit(do_nothing, large, job, result).result()
        print(f"inputs of {MEGABYTES} MB, once: {1000 * (used() - before) / MEGABYTES:.1f} CPU ms a MB")


if __name__ == "__main__":
    main()
