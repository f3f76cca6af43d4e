from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config import Config, digest
from pipeline.config_file import load
from pipeline.errors import ConfigError
from tests.conftest import PROJECT


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "nextday.toml"
    path.write_text(text)
    return path


def test_the_shipped_settings_are_the_defaults_in_full() -> None:
    import tomllib

    shipped = tomllib.loads((PROJECT / "nextday.toml").read_text())
    assert load(PROJECT / "nextday.toml") == Config()
    named = {(section, key) for section, keys in shipped.items() for key in keys}
    known = {(s, key) for s, part in Config() for key in type(part).model_fields}
    assert named == known


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[modle]\n", ["modle", "did you mean 'model'"]),
        ("[model]\nlook_back = 3", ["model.look_back", "did you mean 'lookback'"]),
        ("[model]\nkind = 'transformer'", ["model.kind", "gru, lstm, rnn", "transformer"]),
        ("[universe]\nsymbols = ['../etc']", ["universe.symbols.0", "../etc"]),
        ("[universe]\nname = 'Mein Depot'", ["universe.name", "Mein Depot"]),
        ("[universe]\nsource = 'yahoo'", ["give symbols or file"]),
        ("[universe]\nsource = 'files'", ["needs path"]),
        ("[evaluation]\ntrain_end = 2015-07-31", ["all three"]),
        ("[labels]\ndead_zone = [0.1, 0.2]", ["labels.dead_zone.0"]),
        ("[model", ["not valid TOML"]),
        (f"[training]\nseed = {'9' * 5000}", ["not valid TOML", "4300 digits"]),
        ("a = " + "[" * 5000, ["cannot be read"]),
        ("universe = 3", ["universe: it is a section"]),
        ("[universe]\nsymbols = ['A\\n']", ["universe.symbols.0"]),
        ('[universe]\nsymbols = ["A\\n"]', ["universe.symbols.0", r"'A\n' is not a valid name"]),
        (f"[universe]\nsymbols = ['{'A' * 10_000}']", ["AAA...'"]),
        ("[universe]\nsymbols = ['A', 'A']", ["universe: symbols contains a symbol twice"]),
        (
            "[prices]\nstart = 20181231",
            ["prices.start: it is not a date; write 2018-12-31 (given: '20181231')"],
        ),
        ("[prices]\nstart = 0001-01-01", ["prices.start", "0001-01-01"]),
        ("[model]\nunits = true", ["model.units", "true"]),
        ("[training]\nclip_norm = inf", ["training.clip_norm", "finite"]),
        ("[labels]\nhorizons = [5, 20]", ["labels.horizons", "from 1 on"]),
        ("[labels]\nhorizons = [1, 5, 5]", ["labels.horizons", "each once"]),
        ("[training]\nmode = 'sequence'\nchunk = 20", ["no room for labels", "lookback = 20"]),
        ("[labels]\ndead_zone = [nan, 0]", ["labels.dead_zone.0", "finite"]),
        ("[notify]\nwhat = ['evenings']", ["notify.what.0", "'evening'", "'quarantine'"]),
        ("[notify]\nwhat = ['decay', 'decay']", ["notify.what: write each once"]),
        ("[notify]\nto = ['env:A', 'env:A']", ["notify.to: an address is named twice"]),
        ("[notify]\nreports_url = 'ftp://x'", ["notify.reports_url"]),
    ],
)
def test_a_wrong_setting_is_named_with_a_fix(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "[model]\nunits = 0\nlayers = 'two'\n"))
    assert "model.units" in str(caught.value)
    assert "model.layers" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration file"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "proxy", ["http://me:secret@host:1", "secret", "http://host:1/secret", "host:secret"]
)
def test_a_proxy_with_a_password_is_refused_and_never_shown(tmp_path: Path, proxy: str) -> None:
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        load(write(tmp_path, f"[prices]\nproxy = '{proxy}'"))
    assert "secret" not in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "nextday.toml").write_text("[model]\nunits = 17\n", encoding="utf-8-sig")
    assert load(tmp_path / "nextday.toml").model.units == 17


def test_the_digest_does_not_follow_what_is_about_files_alone(tmp_path: Path) -> None:
    plain = load(write(tmp_path, ""))
    kept = load(
        write(
            tmp_path,
            "[prices]\nkeep_days = 7\n[schedule]\nmaintenance = '0 9 2 * *'\n[retention]\nreport_sessions = 0\n"
            "[notify]\nto = ['env:HOOK']\n[storage]\nmlflow = 'https://mlflow.example:5000/desk'\n"
            "reports = 's3://desk/reports'\n",
        )
    )
    assert (kept.prices.keep_days, kept.schedule.maintenance) == (7, "0 9 2 * *")
    assert kept.retention.report_sessions == 0
    assert digest(plain.resolved()) == digest(kept.resolved())


def test_the_digest_follows_the_settings_and_no_secret(tmp_path: Path) -> None:
    plain = load(write(tmp_path, ""))
    proxied = load(write(tmp_path, "[prices]\nproxy = 'http://host:1'\nca_bundle = 'own.pem'"))
    wider = load(write(tmp_path, "[model]\nunits = 17"))
    assert "host" not in str(proxied.resolved())
    assert digest(plain.resolved()) == digest(proxied.resolved()) != digest(wider.resolved())


def test_settings_without_what_came_later_keep_the_digest_of_earlier_versions(tmp_path: Path) -> None:
    """Of the version that brought the second fit; champions and sealed rows hold it."""
    assert digest(load(write(tmp_path, "")).resolved()) == "5f4c7c76371fe81a"
    assert digest(load(write(tmp_path, "[features]\nadd = []\n")).resolved()) == "5f4c7c76371fe81a"


def test_what_is_added_to_the_features_is_checked_and_put_in_order(tmp_path: Path) -> None:
    added = load(write(tmp_path, '[features]\nadd = ["calendar"]\n'))
    assert added.resolved()["features"] == {"set": "default", "add": ["calendar"]}
    for wrong in ('["calender"]', '["calendar", "calendar"]'):
        with pytest.raises(ConfigError, match=r'features\.add: write some of "calendar".*each once'):
            load(write(tmp_path, f"[features]\nadd = {wrong}\n"))


@pytest.mark.parametrize("day", ["0001-01-01", "2200-01-01", "9999-12-31"])
def test_a_beginning_that_no_calendar_reaches_is_refused(tmp_path: Path, day: str) -> None:
    with pytest.raises(ConfigError, match=r"prices\.start: Input should be .* than"):
        load(write(tmp_path, f"[prices]\nstart = {day}\n"))


def test_sectors_need_a_list_with_a_column_of_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'\[features\] add = \["sector"\] needs \[universe\] sector'):
        load(write(tmp_path, '[features]\nadd = ["sector"]\n'))
    with pytest.raises(ConfigError, match="universe: sector names a column of file, and there is no file"):
        load(write(tmp_path, '[universe]\nsector = "gics"\n'))
    named = load(
        write(
            tmp_path,
            '[universe]\nfile = "list.csv"\nsector = "gics"\n[features]\nadd = ["sector", "calendar"]',
        )
    )
    assert named.resolved()["universe"]["sector"] == "gics"
    assert named.features.add == ("calendar", "sector")


def test_settings_that_a_kind_of_model_has_no_use_for_are_all_named() -> None:
    given = {"kind": "logistic", "attention": True, "convolution": 3, "scope": "symbol", "units": 64}
    with pytest.raises(ValidationError) as refused:
        Config.model_validate({"model": given, "training": {"warm_start": True}})
    (told,) = refused.value.errors()
    for part in (
        "convolution = 3",
        "attention = true",
        'scope = "symbol"',
        "warm_start = true",
        "remove them",
    ):
        assert part in told["msg"]
    assert "units" not in told["msg"]


@pytest.mark.parametrize("kind", ["boosting", "logistic"])
def test_a_classifier_changes_the_digest_by_its_kind_alone(kind: str) -> None:
    usual, chosen = Config().resolved(), Config.model_validate({"model": {"kind": kind}}).resolved()
    assert {**chosen, "model": {**chosen["model"], "kind": "gru"}} == usual


def test_a_kind_and_its_regularization_are_told_apart_and_defaults_keep_the_digest() -> None:
    given = {"dropout": 0.3, "weight_decay": 0.1, "sample_weight": "recent"}
    with pytest.raises(
        ValidationError, match=r"dropout = 0.3.*weight_decay = 0.1.*sample_weight = \"recent\""
    ):
        Config.model_validate({"model": {"kind": "logistic"}, "training": given})
    with pytest.raises(ValidationError, match=r"\[model\] attention = true"):
        Config.model_validate({"model": {"kind": "tcn", "attention": True}, "training": given})
    resolved = Config.model_validate({"training": given}).resolved()
    assert resolved["training"] | given == resolved["training"]
    usual = Config().resolved()
    assert not {"dropout", "weight_decay", "adversarial", "sample_weight"} & {*usual["training"]}
    assert "linear_skip" not in usual["model"]


def test_a_gpu_has_a_digest_of_its_own_and_the_processor_has_that_of_earlier_versions() -> None:
    usual, cpu, gpu = (
        Config.model_validate({"training": given}).resolved()
        for given in ({}, {"device": "cpu"}, {"device": "gpu"})
    )
    assert usual == cpu
    assert "device" not in usual["training"]
    assert gpu == {**usual, "training": {**usual["training"], "device": "gpu"}}
    assert digest(gpu) != digest(usual)
    with pytest.raises(ValidationError, match=r"\[training\] device = \"gpu\""):
        Config.model_validate({"model": {"kind": "logistic"}, "training": {"device": "gpu"}})


def test_an_address_in_the_file_is_refused_by_its_place_and_scheme_alone(tmp_path: Path) -> None:
    text = "[notify]\nto = ['env:OK', 'slack://t0ken/s3cr3t/#c', 's3cr3t']\nheartbeat = 'https://hc.example/s3cr3t'\n"
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, text + "[model]\nunit = 3\n"))
    said = str(refused.value)
    assert "notify.to: address 2 (slack://...) is not the name of an environment variable" in said
    assert "; address 3 is not the name" in said
    assert "notify.heartbeat: the address (https://...) is not" in said
    assert "model.unit" in said  # every fault at once
    assert "s3cr3t" not in said
    assert "t0ken" not in said


@pytest.mark.parametrize("value", ["3", "['a://s3cr3t', 3]", "{ a = 's3cr3t' }", "true"])
def test_no_wrong_value_of_an_address_is_repeated(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, f"[notify]\nto = {value}\nheartbeat = {value}\n"))
    assert "notify.to" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mlflow", "https://desk:s3cr3t@mlflow.example"),
        ("mlflow", "https://s3cr3t@mlflow.example"),
        ("mlflow", "https://mlflow.example?token=s3cr3t"),
        ("mlflow", "postgresql://desk:s3cr3t@db.example/mlflow"),
        ("mlflow", "env:a-s3cr3t"),
        ("ledger", "postgresql://desk:s3cr3t@db.example/desk"),
        ("ledger", "postgresql://db.example/desk?password=s3cr3t"),
        ("prices", "s3://s3cr3t@desk/prices"),
        ("reports", "s3://s3cr3t@desk/reports"),
        ("reports", "gs://desk/s3cr3t"),
    ],
)
def test_an_address_of_the_storage_holds_no_password_and_is_not_repeated(
    tmp_path: Path, key: str, value: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, f"[storage]\n{key} = {value!r}\n"))
    assert f"storage.{key}" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)
