"""The page of a universe's runs in MLflow."""

from pathlib import Path

import pytest

from pipeline.tracking.runs import Tracking
from tests.pipeline.tracking import test_runs as runs
from tests.pipeline.tracking.test_runs import client

pytestmark = pytest.mark.slow

home, template, tracking = runs.home, runs.template, runs.tracking


def test_the_runs_open_as_those_of_a_training(tracking: Tracking, home: Path) -> None:
    experiment = client(home).create_experiment("nextday-sample")
    assert tracking.runs_page("sample") == f"#/experiments/{experiment}/runs?workflowType=machine_learning"
    assert tracking.runs_page("other").split("/")[2] != experiment
