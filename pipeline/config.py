"""The settings: one frozen object read from nextday.toml, with a digest that is stored with every forecast."""

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipeline.config_section import Plain, Section, Symbol
from pipeline.inputs_config import ContextConfig, FeaturesConfig
from pipeline.model_config import ADDED_KEYS, RECURRENT, ModelConfig, TrainingConfig
from pipeline.notify_config import AlarmConfig, NotifyConfig
from pipeline.outputs import DIRECTION, NEXT, TARGETS, Output
from pipeline.plugins import is_custom_code, plain_options
from pipeline.promotion_config import PromotionConfig
from pipeline.storage_config import StorageConfig

__all__ = [
    "SIMULATED",
    "BacktestConfig",
    "CalibrationConfig",
    "Config",
    "EvaluationConfig",
    "FeaturesConfig",
    "LabelsConfig",
    "ModelConfig",
    "PricesConfig",
    "PublishConfig",
    "ScheduleConfig",
    "TradingConfig",
    "TrainingConfig",
    "UniverseConfig",
    "digest",
]

OptionalDate = Annotated[date | None, BeforeValidator(lambda value: None if value == "" else value)]
PROXY_PATTERN: Final = r"^((https?|socks5h?)://[^@/\s]+:[0-9]+/?)?$"


class UniverseConfig(Section):
    """Which stocks, from where, on which exchange."""

    name: str = Field("sample", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    source: str = "sample"
    source_options: dict[str, Plain] = Field(default_factory=dict)
    path: str = ""
    symbols: tuple[Symbol, ...] = ()
    file: str = ""
    sector: str = ""
    calendar: str = "XNYS"
    closures: str = ""
    historical: bool = False

    @property
    def has_custom_source(self) -> bool:
        """Whether the source is custom code."""
        return ":" in self.source

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str) -> str:
        if source not in ("sample", "files", "yahoo") and not is_custom_code(source):
            raise ValueError("write sample, files, yahoo, or package.module:Name for a custom source")
        return source

    @field_validator("source_options", mode="before")
    @classmethod
    def _check_options(cls, options: object) -> object:
        return plain_options(options)

    @model_validator(mode="after")
    def _check_symbols(self) -> Self:
        if self.symbols and self.file:
            raise ValueError("symbols and file both define the universe: keep one of them")
        if self.source == "files" and not self.path:
            raise ValueError(
                "source = 'files' needs path: a CSV or Parquet file, or a folder with a file per symbol"
            )
        if self.source == "yahoo" and not (self.symbols or self.file):
            raise ValueError("source = 'yahoo' cannot list its symbols: give symbols or file")
        if self.sector and not self.file:
            raise ValueError("sector names a column of file, and there is no file")
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError("symbols contains a symbol twice")
        if self.source_options and not self.has_custom_source:
            raise ValueError("source_options are for a custom source: source = 'package.module:Name'")
        return self


class PricesConfig(Section):
    """How bars are fetched and when they count as final."""

    start: date = Field(date(1999, 1, 1), ge=date(1900, 1, 1), lt=date(2200, 1, 1))
    delay_minutes: int = Field(45, ge=0, le=24 * 60)
    adjustment: Literal["auto", "raw", "split", "split+dividend"] = "auto"
    requests_per_second: float = Field(1.5, gt=0, le=10)
    proxy: str = Field("", pattern=PROXY_PATTERN)
    ca_bundle: str = ""
    keep_days: int = Field(30, ge=1, le=3650)


class LabelsConfig(Section):
    """Which returns are forecast, and which of them are labels."""

    targets: tuple[str, ...] = (DIRECTION,)
    horizons: tuple[Annotated[int, Field(ge=1, le=250)], ...] = (1,)
    dead_zone: tuple[Annotated[float, Field(le=0, gt=-1)], Annotated[float, Field(ge=0, lt=1)]] = (0.0, 0.0)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs of the network, target by target; overnight and intraday reach no farther than next session."""
        return tuple(
            Output(target, horizon)
            for target in TARGETS
            if target in self.targets
            for horizon in (self.horizons if target in (DIRECTION, "relative") else (NEXT,))
        )

    @field_validator("targets")
    @classmethod
    def _check_targets(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [target for target in targets if target not in TARGETS]
        if unknown or not targets or len(set(targets)) < len(targets):
            raise ValueError(f'write some of {", ".join(TARGETS)}, each once: ["direction", "relative"]')
        return tuple(target for target in TARGETS if target in targets)

    @field_validator("horizons")
    @classmethod
    def _check_horizons(cls, horizons: tuple[int, ...]) -> tuple[int, ...]:
        if horizons[:1] != (1,) or list(horizons) != sorted(set(horizons)):
            raise ValueError(
                "write them in ascending order, each once, from 1 on (the next session): [1], [1, 5, 20]"
            )
        return horizons


class CalibrationConfig(Section):
    """How logits become probabilities, and when the model abstains."""

    method: Literal["bayes", "temperature", "platt", "isotonic", "auto"] = "bayes"
    slope_prior: tuple[float, float] = (0.5, 0.35)
    coverage: float = Field(1.0, gt=0, le=1)

    @field_validator("slope_prior")
    @classmethod
    def _check_prior(cls, prior: tuple[float, float]) -> tuple[float, float]:
        mean, deviation = prior
        if not (0 <= mean <= 2 and 0 < deviation <= 100):
            raise ValueError("a mean in [0, 2] and a standard deviation in (0, 100], e.g. [0.5, 0.35]")
        return prior


class EvaluationConfig(Section):
    """Which sessions are held out from the fit and scored."""

    test_sessions: int = Field(504, ge=20)
    train_end: OptionalDate = None
    validation_end: OptionalDate = None
    test_end: OptionalDate = None

    @model_validator(mode="after")
    def _check_dates(self) -> Self:
        ends = (self.train_end, self.validation_end, self.test_end)
        given = [end for end in ends if end is not None]
        if given and len(given) < len(ends):
            raise ValueError("train_end, validation_end and test_end belong together: give all three or none")
        if given != sorted(set(given)):
            raise ValueError("train_end, validation_end and test_end must be in ascending order")
        return self


class BacktestConfig(Section):
    """The walk-forward folds of `nextday backtest`."""

    window: Literal["expanding", "rolling"] = "expanding"
    train_sessions: int = Field(756, ge=100)
    refit_sessions: int = Field(252, ge=20)


class TradingConfig(Section):
    """The assumptions of the trading view; no forecast depends on them."""

    threshold: float = Field(0.0, ge=0, lt=0.5)
    cost_bps: float = Field(1.0, ge=0, le=1000)
    slippage_bps: float = Field(2.0, ge=0, le=1000)
    long_short: int = Field(10, ge=1, le=10_000)
    borrow_bps: float = Field(30.0, ge=0, le=10_000)

    @property
    def bps_a_side(self) -> float:
        """The total cost of one purchase or sale, in basis points of its value."""
        return self.cost_bps + self.slippage_bps


class ScheduleConfig(Section):
    """When Prefect starts the flows, as cron lines in the exchange's time zone."""

    nightly: str = "30 18 * * MON-FRI"
    retrain: str = "0 8 * * SAT"
    maintenance: str = "0 12 1 * *"


_LEAST_KEPT = 30
"""A nightly run looks for missing reports among the newest sessions; those must stay."""


class RetentionConfig(Section):
    """How long reports stay; the ledger, the prices and the models stay for ever."""

    report_sessions: int = Field(0, ge=0)

    @field_validator("report_sessions")
    @classmethod
    def _check_report_sessions(cls, sessions: int) -> int:
        if 0 < sessions < _LEAST_KEPT:
            raise ValueError(
                f"write 0 to keep every report, or at least {_LEAST_KEPT}: a nightly run writes the newest ones again"
            )
        return sessions


class PublishConfig(Section):
    """Where the sealed batches are committed as they are sealed."""

    commit: bool = False
    repository: str = ""

    @model_validator(mode="after")
    def _check_repository(self) -> Self:
        if self.commit and not self.repository:
            raise ValueError(
                "commit = true needs repository: a folder in the working tree of a git repository"
            )
        return self


class Config(Section):
    """Every setting of one universe."""

    universe: UniverseConfig = UniverseConfig()
    prices: PricesConfig = PricesConfig()
    features: FeaturesConfig = FeaturesConfig()
    context: ContextConfig = ContextConfig()
    labels: LabelsConfig = LabelsConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    backtest: BacktestConfig = BacktestConfig()
    trading: TradingConfig = TradingConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    retention: RetentionConfig = RetentionConfig()
    promotion: PromotionConfig = PromotionConfig()
    notify: NotifyConfig = NotifyConfig()
    alarm: AlarmConfig = AlarmConfig()
    publish: PublishConfig = PublishConfig()
    storage: StorageConfig = StorageConfig()

    @model_validator(mode="after")
    def _check_training(self) -> Self:
        if self.training.mode == "sequence" and self.training.chunk <= self.model.lookback:
            raise ValueError(
                f"[training] chunk = {self.training.chunk} leaves no room for labels after [model] lookback = "
                f"{self.model.lookback}: make the chunk several times as long"
            )
        if self.model.is_custom and (self.training.mode == "sequence" or self.training.warm_start):
            raise ValueError(
                "[training] mode = 'sequence' and warm_start are for nextday's networks: a custom model reads "
                "`lookback` sessions and is fitted from scratch"
            )
        if ignored := self.model.without_effect(self.training):
            raise ValueError(
                f"[model] kind = {self.model.kind!r} has no use for {', '.join(ignored)}: remove "
                f"{'it' if len(ignored) == 1 else 'them'}, or choose a kind that has ({', '.join(RECURRENT)})"
            )
        if "sector" in self.features.add and not self.universe.sector:
            raise ValueError(
                '[features] add = ["sector"] needs [universe] sector: the column of [universe] file with the sectors'
            )
        return self

    @model_validator(mode="after")
    def _check_context(self) -> Self:
        faults, series = list[str](), self.context.symbols
        if both := sorted(set(series) & set(self.universe.symbols)):
            faults.append(
                f"{', '.join(both)} cannot be a constituent ([universe] symbols) and a context series ([context] "
                "symbols): remove it from one of the two"
            )
        if "context" in self.features.add and not series:
            faults.append(
                '[features] add = ["context"] needs [context] symbols: the series, e.g. ["^VIX", "^TNX"]'
            )
        if series and "context" not in self.features.add:
            faults.append('[context] symbols are read by nothing: add "context" to [features] add')
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def resolved(self) -> dict[str, Any]:
        """Return the settings as JSON values, defaults included.

        Settings that may hold a password are left out, and those that change no forecast.
        """
        left_out: dict[str, bool | set[str]] = {
            "backtest": True,
            "notify": True,
            "alarm": True,  # where it stops directions, the run's resolved settings name the outputs
            "prices": {"proxy", "ca_bundle", "keep_days"},
            "training": {"processes", "scheduler", "worker_patience"},  # results do not depend on them
            "retention": True,
            "promotion": True,
            "publish": True,
            "storage": True,
            "schedule": {"maintenance"},
            "trading": True,
        }
        resolved = self.model_dump(mode="json", exclude=left_out)
        # Keys of later versions: without them the digest stays that of earlier versions.
        for key in ("closures", "sector"):
            if not resolved["universe"][key]:
                del resolved["universe"][key]
        if not self.model.options:
            del resolved["model"]["options"]
        if self.labels.targets == (DIRECTION,):
            del resolved["labels"]["targets"]
        if not self.context.symbols:
            del resolved["context"]
        if not self.features.add:
            del resolved["features"]["add"]
        for section, names in ADDED_KEYS.items():
            for name in names:
                settings = getattr(self, section)
                if getattr(settings, name) == type(settings).model_fields[name].default:
                    del resolved[section][name]
        if self.training.used_device == "cpu":  # written or not, it is what earlier versions did
            del resolved["training"]["device"]
        return resolved


SIMULATED: Final = "simulated"
"""The key of resolved settings that belong to a simulation, and the first word of their digest."""


def digest(resolved: Mapping[str, Any]) -> str:
    """Return the first 16 hex digits of the sha256 of the canonical JSON of a resolved configuration.

    Those of a simulation begin with "simulated-": every sealed row names its digest, and so shows what it is.
    """
    canonical = json.dumps(resolved, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    found = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    return f"{SIMULATED}-{found}" if resolved.get(SIMULATED) else found
