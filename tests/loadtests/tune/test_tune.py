"""Which settings win, and that a candidate is the champion's archive with other settings."""

import io
import zipfile

import pytest
import yaml
from typer.testing import CliRunner

from loadtests.__main__ import app
from loadtests.tune.candidates import Candidate, configured, grid
from loadtests.tune.tune import Point, best, middle
from serving.archive import CONFIG

SMALL, LARGE = Candidate(1, 1), Candidate(1, 64)


def archive() -> bytes:
    buffer = io.BytesIO()
    config = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 64, "maxBatchDelay": 1, "handler": {"max_rows": 9}}
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("model.onnx", b"graph")
        file.writestr(CONFIG, yaml.safe_dump(config))
    return buffer.getvalue()


def test_a_candidate_changes_the_settings_and_nothing_else() -> None:
    content = configured(archive(), Candidate(2, 16, 3))
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        config = yaml.safe_load(file.read(CONFIG))
        assert file.read("model.onnx") == b"graph"
    assert Candidate.of(content) == Candidate(2, 16, 3)
    assert config["maxWorkers"] == 2
    assert config["handler"] == {"max_rows": 9}


def test_a_batch_of_one_is_tried_once_whatever_the_delay() -> None:
    assert grid([1], [1, 8], [1, 3]) == [Candidate(1, 1, 1), Candidate(1, 8, 1), Candidate(1, 8, 3)]


def test_the_best_has_the_highest_throughput_of_those_that_keep_to_the_objective() -> None:
    points = [
        Point(SMALL, 1, 1000, 1, 2, 0),
        Point(SMALL, 64, 2000, 30, 40, 0),
        Point(LARGE, 64, 5000, 10, 45, 0),
        Point(LARGE, 256, 9000, 30, 60, 0),
        Point(LARGE, 512, 9500, 30, 40, errors=1),
    ]
    assert best(points, 50) == points[2]
    assert best(points, 5) == points[0]
    assert best(points, 1) is None


def test_rounds_are_summed_up_by_their_medians_and_by_all_their_errors() -> None:
    rounds = [Point(SMALL, 1, rate, rate / 10, 5, errors) for rate, errors in ((10, 0), (30, 1), (20, 2))]
    assert middle(rounds) == Point(SMALL, 1, 20, 2, 5, 3)


def test_a_candidate_is_kept_by_the_command_that_packages_it() -> None:
    assert Candidate(2, 16, 3).options() == ["--workers", "2", "--batch-size", "16", "--max-batch-delay", "3"]


@pytest.mark.parametrize("variable", ["MARLOOP_MODEL_STORE"])
def test_a_model_that_is_not_there_is_an_error_with_the_way_out(
    variable: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = str(tmp_path_factory.mktemp("store"))
    done = CliRunner().invoke(app, ["tune", "--model", "nobody", "--reports", folder], env={variable: folder})
    assert done.exit_code == 2
    assert "make train MODEL=nobody" in done.output or "apt-get install wrk" in done.output
