"""Trainings on a real Ray of one node; skipped where the extra ``ray`` is not installed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitoring.retraining.launch.launcher import Launcher
from monitoring.retraining.launch.place import TrainingPlace, launcher_of
from monitoring.retraining.launch.trainings import JobTrainings, write_rows
from monitoring.store.records import Labelled
from serving.registry import Registry
from serving.settings import Settings
from tests.support.serving.ray import ray_head
from tests.support.waiting import wait_until

pytestmark = pytest.mark.ray

# A recipe that takes its time: a test must find it at work.
SLOW = """
import time
from training.recipes.linear import Linear


class Slow(Linear):
    name = "slow"

    def augment(self, inputs, hp):
        time.sleep(60 / hp.epochs)
        return inputs


recipe = Slow()
"""


@dataclass(frozen=True)
class Ray:
    """A Ray of one node.

    Attributes:
        environ: the settings by which trainings run there.
    """

    environ: dict[str, str]
    settings: Settings
    launcher: Launcher

    def trainings(self) -> JobTrainings:
        """Those of a monitor that has just begun."""
        return JobTrainings(self.settings, self.launcher)


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ray]:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "recipes").mkdir()
    (folder / "recipes" / "slow.py").write_text(SLOW)
    with ray_head(folder / "ray.log") as head:
        environ = {
            "MARLOOP_TRAIN_ON": "ray",
            "MARLOOP_TRAIN_RAY_URL": head.dashboard,
            "RAY_AUTH_TOKEN": head.token,
            "MARLOOP_RUNS": str(folder / "runs"),
            "MARLOOP_RECIPES": str(folder / "recipes"),
        }
        settings = Settings(model_store=folder / "store", run_dir=folder / "run")
        launcher: Any = launcher_of(TrainingPlace.from_environment(environ), settings, environ)
        yield Ray(environ, settings, launcher)
        launcher._api._client.close()


def submitted(ray: Ray, id: int, model: str) -> JobTrainings:
    trainings = ray.trainings()
    rows: list[Labelled] = []
    write_rows(trainings.rows(id), rows)
    trainings.start(id, model, ["--feedback", str(trainings.rows(id))])
    return trainings


def test_a_training_that_a_cluster_refuses_to_learn_tells_why(ray: Ray) -> None:
    submitted(ray, 1, "linear")  # without a row that it could learn
    wait_until(lambda: ray.trainings().age(1) is None, 120)
    result = ray.trainings().result(1)
    assert result is not None
    assert "row" in result.error
    assert result.error in " ".join(ray.trainings().last_lines(1).split())
    assert not Registry(ray.settings.model_store).models()


def test_another_monitor_finds_a_training_and_ends_it(ray: Ray) -> None:
    trainings = ray.trainings()
    path = trainings.rows(2)
    path.parent.mkdir(parents=True)
    row = '{{"time": "2013-02-17T12:{:02}:00+00:00", "features": {{"x": 1.0}}, "label": 2.0}}\n'
    path.write_text("".join(map(row.format, range(30))))
    trainings.start(2, "slow", ["--feedback", str(path)])
    wait_until(lambda: ray.trainings().progress(2).startswith("epoch "), 120)
    age = ray.trainings().age(2)
    assert age is not None
    assert 0 <= age < 120
    assert ray.trainings().age(3) is None
    ray.trainings().end(2)
    assert ray.trainings().age(2) is None
    assert ray.trainings().result(2) is None
    assert any(Path(ray.environ["MARLOOP_RUNS"]).rglob("*.ckpt"))  # to go on from
    assert "epoch " in ray.trainings().last_lines(2)
