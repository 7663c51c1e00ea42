"""The deadline of a model is ten times what its largest request takes."""

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.support.training.quadrants import Quadrants
from training.packaging import deadline
from training.packaging.deadline import LEAST, MOST, slowest, with_deadline
from training.packaging.registration import Result
from training.recipe import Serving


@pytest.fixture
def graphs(quadrants: Result, tmp_path: Path) -> Path:
    with zipfile.ZipFile(quadrants.archive) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def test_the_largest_request_is_measured(quadrants: Result, graphs: Path) -> None:
    assert 0 < slowest(Quadrants.entry_point, quadrants.contract, graphs, Serving()) < 60


@pytest.mark.parametrize(("seconds", "timeout"), [(0.001, LEAST), (0.25, 3), (1.0, 10), (100.0, MOST)])
def test_it_is_ten_times_that_in_whole_seconds_within_bounds(
    quadrants: Result, graphs: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, timeout: int
) -> None:
    monkeypatch.setattr(deadline, "slowest", lambda *arguments: seconds)
    found = with_deadline(Quadrants.entry_point, quadrants.contract, graphs, Serving())
    assert found == replace(Serving(), response_timeout=timeout)


def test_a_choice_goes_before(quadrants: Result, graphs: Path) -> None:
    chosen = Serving(response_timeout=7)
    assert with_deadline(Quadrants.entry_point, quadrants.contract, graphs, chosen) == chosen


def test_an_archive_tells_its_deadline(quadrants: Result, graphs: Path) -> None:
    config = yaml.safe_load((graphs / "model-config.yaml").read_text())
    assert LEAST <= config["responseTimeout"] <= MOST
