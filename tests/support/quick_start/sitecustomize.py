"""Read by Python at its start where this folder is on PYTHONPATH: fewer rounds of garbage collection.

Prefect's server and workers import for seconds, a third of which is looking for garbage among what stays.
"""

import atexit
import gc

gc.set_threshold(100_000, 50, 50)
atexit.register(gc.freeze)
