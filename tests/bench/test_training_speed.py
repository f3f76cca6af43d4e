"""Labels that carry loss, trained in a second: by the product's own trainer, against plain Keras in the same minutes.

Ratios only: every lap of a way stands beside a lap of its reference. GRU of 64 units, lookback and burn-in of 60
sessions, 6 features, 100 symbols x 1,500 sessions, unless a test says otherwise.
"""

import importlib.util
import statistics
from collections.abc import Mapping

import pytest

from tests.bench.trainers import CORES, Load, Way

pytestmark = pytest.mark.bench

LAPS = 5


def race(ways: Mapping[str, Way], laps: int = LAPS) -> dict[str, list[float]]:
    """Let each way do its laps, one after another, and end them."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way.wait()
    for _ in range(laps):
        for name, way in ways.items():
            rates[name].append(way.lap())
    for way in ways.values():
        way.end()
    return rates


def tell(
    rates: Mapping[str, list[float]], unit: str, promised: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Print each way beside the first one, and return the median of its laps' ratios to the first one's."""
    (_, reference), *_ = rates.items()
    ratios = {}
    print()
    for name, mine in rates.items():
        each = sorted(one / other for one, other in zip(mine, reference, strict=True))
        ratios[name] = statistics.median(each)
        limit = (promised or {}).get(name)
        print(
            f"{name:<44} {statistics.median(mine):>12,.0f} {unit} ({min(mine):,.0f} to {max(mine):,.0f}, n {len(mine)})"
            f"   {ratios[name]:7.2f} x ({each[0]:.2f} to {each[-1]:.2f})"
            + (f"   promised {limit:g} x" if limit else "")
        )
    return ratios


def test_labels_per_second_against_plain_keras() -> None:
    promised = {"windowed, a process a core": 2, "sequence, a process a core": 30}
    rates = race(
        {
            "reference: keras.Sequential.fit, all cores": Way("keras fit"),
            "windowed, a process a core": Way("windowed", CORES),
            "sequence, a process a core": Way("sequence", CORES),
            "sequence, one process": Way("sequence"),
        }
    )
    ratios = tell(rates, "labels/s", promised)
    for name, limit in promised.items():
        assert ratios[name] >= limit


def test_against_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip(
            "NOT MEASURED: torch is not installed here; pip install torch, into an environment of its own"
        )
    ways = {"torch, one process, all cores": Way("torch"), "torch, a process a core": Way("torch", CORES)}
    rates = race({**ways, "sequence, a process a core": Way("sequence", CORES)})
    best = max(ways, key=lambda name: statistics.median(rates[name]))
    ratios = tell({best: rates.pop(best), **rates}, "labels/s", {"sequence, a process a core": 0.9})
    assert ratios["sequence, a process a core"] >= 0.9


def test_forecasts_over_all_of_history() -> None:
    rates = race({"reference: model.predict(batch_size=1024)": Way("predict"), "one pass": Way("one pass")})
    assert tell(rates, "forecasts/s", {"one pass": 100})["one pass"] >= 100


def test_what_a_step_may_hold() -> None:
    """The curve by chunk and labels a step, in one process of one thread."""
    shapes = [(252, 1), (252, 4), (252, 16), (252, 64), (252, 128), (504, 64), (1008, 32)]
    loads = {
        f"chunks of {chunk} sessions, {rows} a step": Load(chunk=chunk, labels=rows * (chunk - 59))
        for chunk, rows in shapes
    }
    tell(race({name: Way("sequence", load=load) for name, load in loads.items()}), "labels/s")


def test_cost_grows_in_step_with_symbols_and_sessions() -> None:
    shapes = [(100, 1500), (10, 1500), (500, 1500), (100, 500), (100, 5000)]
    loads = {
        f"{symbols} symbols x {sessions} sessions": Load(symbols, sessions) for symbols, sessions in shapes
    }
    ratios = tell(race({name: Way("sequence", load=load) for name, load in loads.items()}), "labels/s")
    # As many labels a second where there is more: cost that grows in step.
    assert ratios["500 symbols x 1500 sessions"] >= 0.8
    assert ratios["100 symbols x 5000 sessions"] >= 0.8


def test_cost_grows_in_step_with_members() -> None:
    loads = {f"{members} members": Load(members=members) for members in (1, 2, 5, 10)}
    ratios = tell(race({name: Way("members", load=load) for name, load in loads.items()}, laps=3), "labels/s")
    assert ratios["10 members"] >= 0.8


def test_peak_memory_of_a_fit() -> None:
    (above,) = race({"fit": Way("memory", load=Load(symbols=500, sessions=5000, features=20))}, laps=1)["fit"]
    print(
        f"\na fit of 500 symbols x 5,000 sessions x 20 features: {above:,.0f} MB above the imports, promised 1,500"
    )
    assert above <= 1500


def test_the_share_of_the_processor() -> None:
    load = Load()
    rates = race({"matmul": Way("matmul"), "sequence": Way("sequence", CORES)})
    limit, labels = statistics.median(rates["matmul"]), statistics.median(rates["sequence"])
    # A session of a chunk: forwards x W and h R; backwards their weights' gradients, and that of h.
    gates = 3 * load.units
    session = 2 * gates * (2 * (load.features + load.units) + load.units)
    done = labels * session * load.chunk / (load.chunk - load.lookback + 1)
    print(f"\n{done / 1e9:.0f} of {limit / 1e9:.0f} GFLOP/s of a 2048 x 2048 product: {done / limit:.0%}")
    assert done / limit >= 0.15
