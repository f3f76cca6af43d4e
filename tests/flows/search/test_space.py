"""The space of a search: what is drawn from it are settings, and the configured ones are always in it."""

import pytest

from flows.search.sampler import ask
from flows.search.space import (
    SPACE,
    configured_parameters,
    longest_lookback,
    round_parameters,
    space_around,
    with_parameters,
)
from pipeline.config import Config, ModelConfig, TrainingConfig
from pipeline.tracking.trials import Trial
from tests.conftest import NOW

pytestmark = [pytest.mark.slow, pytest.mark.own_process]


def test_whatever_is_drawn_from_the_space_are_settings() -> None:
    config = Config()
    first = Trial(
        "search",
        NOW,
        "d",
        "complete",
        configured_parameters(config),
        0.7,
        (0.7, 0.7),
        1,
        (0.7,),
        "2018-12-10",
        1,
    )
    drawn = [ask(SPACE, [first], configured_parameters(config), (1, number)).params for number in range(60)]
    for parameters in (round_parameters(params, SPACE) for params in drawn):
        assert configured_parameters(with_parameters(config, parameters)) == parameters
    assert {each["model.kind"] for each in drawn} == {"gru", "lstm", "rnn"}


def test_a_kind_without_recurrence_is_tried_and_written_down_without_what_it_has_no_use_for() -> None:
    linear = Config(model=ModelConfig(kind="linear"))
    assert "linear" in space_around(linear)["model.kind"].choices
    drawn = configured_parameters(linear) | {"model.convolution": 5, "model.attention": True}
    assert configured_parameters(with_parameters(linear, drawn)) == configured_parameters(linear)
    recurrent = drawn | {"model.kind": "lstm"}
    assert configured_parameters(with_parameters(linear, recurrent)) == recurrent


def test_a_rounded_number_stays_inside_the_space() -> None:
    odd = Config(training=TrainingConfig(learning_rate=0.0125))
    space = space_around(odd)
    rounded = round_parameters({"training.learning_rate": 0.0125}, space)
    assert rounded == {"training.learning_rate": 0.0125}
    assert round_parameters({"training.learning_rate": 0.00234}, space) == {"training.learning_rate": 0.0023}


def test_the_configured_settings_are_always_part_of_the_space() -> None:
    odd = Config(
        model=ModelConfig(units=13, lookback=100), training=TrainingConfig(learning_rate=0.05, batch_size=77)
    )
    space = space_around(odd)
    asked = ask(space, [], configured_parameters(odd), (1, 0))
    assert asked.params == configured_parameters(odd)
    assert longest_lookback(odd) == 100
    assert longest_lookback(Config(training=TrainingConfig(chunk=50))) == 40
    long = Config(model=ModelConfig(lookback=300))
    assert space_around(long)["training.mode"].choices == ("windowed",)
