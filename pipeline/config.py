"""The settings: one frozen, closed value read from nextday.toml, with a digest that goes on every row."""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import ConfigError
from pipeline.schema import SYMBOL_PATTERN

__all__ = [
    "Config",
    "EvaluationConfig",
    "FeaturesConfig",
    "LabelsConfig",
    "ModelConfig",
    "PricesConfig",
    "ScheduleConfig",
    "TrainingConfig",
    "UniverseConfig",
    "digest",
    "load",
]

Symbol = Annotated[str, Field(pattern=SYMBOL_PATTERN)]
OptionalDate = Annotated[date | None, BeforeValidator(lambda value: None if value == "" else value)]
Fields = ConfigDict(frozen=True, extra="forbid", strict=False)


class UniverseConfig(BaseModel):
    """Which stocks, from where, on which exchange."""

    model_config = Fields
    name: str = Field("sample", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    source: Literal["sample", "files", "yahoo"] = "sample"
    path: str = ""
    symbols: tuple[Symbol, ...] = ()
    file: str = ""
    calendar: str = "XNYS"
    historical: bool = False

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if self.symbols and self.file:
            raise ValueError("symbols and file both name the universe: keep one of them")
        if self.source == "files" and not self.path:
            raise ValueError(
                "source = 'files' needs path: a CSV or Parquet file, or a folder with a file per symbol"
            )
        if self.source == "yahoo" and not (self.symbols or self.file):
            raise ValueError("source = 'yahoo' cannot list its symbols: give symbols or file")
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError("symbols names one symbol twice")
        return self


class PricesConfig(BaseModel):
    """How bars are fetched and when they count as final."""

    model_config = Fields
    start: date = date(1999, 1, 1)
    delay_minutes: int = Field(45, ge=0, le=24 * 60)
    adjustment: Literal["auto", "raw", "split", "split+dividend"] = "auto"
    requests_per_second: float = Field(1.5, gt=0, le=10)
    proxy: str = ""
    ca_bundle: str = ""


class FeaturesConfig(BaseModel):
    """What the network sees of each session."""

    model_config = Fields
    set: Literal["default", "alstm11"] = "default"


class LabelsConfig(BaseModel):
    """What is forecast."""

    model_config = Fields
    horizons: tuple[Literal[1]] = (1,)
    dead_zone: tuple[Annotated[float, Field(le=0, gt=-1)], Annotated[float, Field(ge=0, lt=1)]] = (0.0, 0.0)


class ModelConfig(BaseModel):
    """The network."""

    model_config = Fields
    kind: Literal["gru", "lstm", "rnn"] = "gru"
    units: int = Field(16, ge=1, le=1024)
    layers: int = Field(1, ge=1, le=8)
    lookback: int = Field(20, ge=1, le=1000)
    members: int = Field(5, ge=1, le=100)
    scope: Literal["pooled"] = "pooled"


class TrainingConfig(BaseModel):
    """How the network is fitted."""

    model_config = Fields
    mode: Literal["windowed"] = "windowed"
    epochs: int = Field(20, ge=1, le=10_000)
    batch_size: int = Field(256, ge=1, le=65_536)
    learning_rate: float = Field(3e-4, gt=0, lt=1)
    clip_norm: float = Field(1.0, gt=0)
    patience: int = Field(4, ge=1)
    seed: int = Field(20, ge=0, lt=2**31)
    stop_sessions: int = Field(252, ge=20)
    calibrate_sessions: int = Field(252, ge=20)


class EvaluationConfig(BaseModel):
    """What the fit never sees."""

    model_config = Fields
    test_sessions: int = Field(504, ge=20)
    train_end: OptionalDate = None
    validation_end: OptionalDate = None
    test_end: OptionalDate = None

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        ends = (self.train_end, self.validation_end, self.test_end)
        given = [end for end in ends if end is not None]
        if given and len(given) < len(ends):
            raise ValueError("train_end, validation_end and test_end go together: give all three or none")
        if given != sorted(set(given)):
            raise ValueError("train_end, validation_end and test_end must follow each other in time")
        return self


class ScheduleConfig(BaseModel):
    """When Prefect starts the flows, as cron lines in the exchange's own time zone."""

    model_config = Fields
    nightly: str = "30 18 * * MON-FRI"
    retrain: str = "0 8 * * SAT"


class Config(BaseModel):
    """Every setting of one universe; frozen, closed, with a digest."""

    model_config = Fields
    universe: UniverseConfig = UniverseConfig()
    prices: PricesConfig = PricesConfig()
    features: FeaturesConfig = FeaturesConfig()
    labels: LabelsConfig = LabelsConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    def resolved(self) -> dict[str, Any]:
        """Return every setting as JSON values, defaults filled in; what may hold a password is left out."""
        return self.model_dump(mode="json", exclude={"prices": {"proxy", "ca_bundle"}})


def digest(resolved: Mapping[str, Any]) -> str:
    """Return the first 16 hex digits of the sha256 of the canonical JSON of a resolved configuration."""
    canonical = json.dumps(resolved, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def load(path: Path) -> Config:
    """Read nextday.toml.

    Raises:
        ConfigError: the file is missing, is no TOML, or has a key or value that nextday does not know; every
            fault is named, and for an unknown key the nearest known one.
    """
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(
            "There is no configuration file", where=str(path), way_out="name one with --config FILE"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The configuration cannot be read: {error}",
            where=str(path),
            way_out="name another with --config FILE",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"The configuration is not valid TOML: {error}", where=str(path), way_out="mend that line"
        ) from None
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_explain(fault) for fault in error.errors(include_url=False)),
            where=str(path),
            way_out="mend the lines named above; nextday.toml in the project explains every key",
        ) from None


def _explain(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "string_pattern_mismatch":
        allowed = "a-z, 0-9, - and _" if place == "universe.name" else "letters, digits and . ^ = _ -"
        return f"{place}: {fault['input']!r} is no possible name; write {allowed}"
    if fault["type"] != "extra_forbidden":
        given = "" if isinstance(fault["input"], dict) else f" (given: {fault['input']!r})"
        return f"{place or 'configuration'}: {fault['msg']}{given}"
    section, key = fault["loc"][:-1], str(fault["loc"][-1])
    known = _keys(section)
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known here: {', '.join(known)}"
    return f"{place}: there is no such key; {hint}"


def _keys(section: tuple[Any, ...]) -> list[str]:
    if not section:
        return list(Config.model_fields)
    part = Config.model_fields[str(section[0])].annotation
    return list(part.model_fields) if isinstance(part, type) and issubclass(part, BaseModel) else []
