"""Trainings as Ray jobs and as Kubernetes Jobs: found again by name, ended there too, and told by their output.

No cluster is here: what answers is written after the APIs' documents. ``test_ray_cluster.py`` asks a real Ray.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.retraining.launch import submissions
from monitoring.retraining.launch.kubernetes import KubernetesLauncher, read_manifest
from monitoring.retraining.launch.launcher import Launcher, RefusedError, UnreachableError
from monitoring.retraining.launch.place import TrainingPlace, launcher_of
from monitoring.retraining.launch.process import ProcessLauncher
from monitoring.retraining.launch.ray import RayLauncher
from monitoring.retraining.launch.submissions import Api
from monitoring.retraining.launch.trainings import JobTrainings
from serving.hosts.ray.settings import Place
from serving.settings import Settings
from tests.support.monitoring.clusters import FakeCluster, FakeKubernetes, FakeRay

MANIFEST = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"generateName": "train-", "labels": {"team": "flights"}},
    "spec": {
        "backoffLimit": 6,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "train",
                        "image": "marloop:1",
                        "args": ["marloop", "status"],
                        "env": [{"name": "MARLOOP_RUNS", "value": "/elsewhere"}, {"name": "TZ", "value": "UTC"}],
                    }
                ]
            }
        },
    },
}
VARIABLES = {"MARLOOP_RUNS": "/shared/runs"}


@dataclass
class World:
    """A cluster, and trainings of a run that are submitted to it."""

    cluster: FakeCluster
    launcher: Launcher
    settings: Settings

    @property
    def trainings(self) -> JobTrainings:
        """Those of a monitor that has just begun."""
        return JobTrainings(self.settings, self.launcher)

    @property
    def name(self) -> str:
        """Of the only training that was submitted last."""
        return list(self.cluster.jobs)[-1]


def ray(cluster: FakeCluster) -> Launcher:
    return RayLauncher(Api("Ray", cluster.client()), VARIABLES, cpus=2)


def kubernetes(cluster: FakeCluster) -> Launcher:
    return KubernetesLauncher(Api("Kubernetes", cluster.client()), "lab", MANIFEST, VARIABLES)


@pytest.fixture(params=[(FakeRay, ray), (FakeKubernetes, kubernetes)], ids=["ray", "kubernetes"])
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(submissions, "POLL", 0.01)
    monkeypatch.setattr(submissions, "ENDING", 0.05)
    kind, launcher = request.param
    cluster = kind()
    world = World(cluster, launcher(cluster), Settings(model_store=tmp_path / "store", run_dir=tmp_path / "run"))
    world.trainings.rows(1).parent.mkdir(parents=True)
    return world


def test_a_training_is_found_again_by_another_monitor_until_it_ends(world: World) -> None:
    assert world.trainings.age(1) is None
    assert world.trainings.start(1, "flights", ["--preset", "quick"]) is None  # it is no process of this machine
    age = world.trainings.age(1)
    assert age is not None
    assert age > 300_000_000  # the cluster says that it began in the past
    assert world.trainings.age(2) is None
    world.cluster.running.clear()
    assert world.trainings.age(1) is None


def test_a_cancelled_training_is_ended_there_too(world: World) -> None:
    world.trainings.start(1, "flights", [])
    world.trainings.end(1)
    assert world.cluster.running == set()
    world.trainings.end(1)  # there is none any more


def test_one_that_does_not_end_is_told_and_asked_again(world: World) -> None:
    world.trainings.start(1, "flights", [])
    world.cluster.deaf = True
    with pytest.raises(UnreachableError, match="has not ended"):
        world.trainings.end(1)
    world.cluster.deaf = False
    world.trainings.end(1)
    assert world.cluster.running == set()


def test_each_attempt_has_a_name_of_its_own(world: World) -> None:
    for _ in range(2):
        world.trainings.start(1, "flights", [])
        world.cluster.running.clear()
    first, second = world.cluster.jobs
    assert first != second
    assert all(name.startswith("marloop-1-") for name in (first, second))


def test_what_it_printed_is_progress_and_is_kept_in_the_jobs_log(world: World) -> None:
    world.trainings.start(1, "flights", [])
    world.cluster.printed[world.name] = "flights: reading the data\nepoch 3/20 loss 114.3\nsome library\n"
    assert world.trainings.progress(1) == "epoch 3/20 loss 114.3"
    assert world.trainings.log(1).read_text() == world.cluster.printed[world.name]
    world.cluster.away = True
    assert world.trainings.last_lines(1).endswith("some library")  # of the last look


def test_an_earlier_job_of_the_same_number_is_ended_and_forgotten(world: World) -> None:
    world.trainings.start(1, "flights", [])
    world.trainings.clear(1)
    assert world.cluster.running == set()
    assert not world.trainings.rows(1).parent.exists()


def test_all_trainings_of_a_run_are_ended_at_once(world: World) -> None:
    world.trainings.rows(2).parent.mkdir()
    world.trainings.start(1, "flights", [])
    world.trainings.start(2, "flights", [])
    assert world.trainings.end_all() == 2
    assert world.cluster.running == set()
    assert world.trainings.end_all() == 0


def test_a_monitor_that_is_killed_before_it_submits_finds_nothing_to_run(world: World) -> None:
    world.cluster.away = True
    with pytest.raises(UnreachableError, match="does not answer: connection refused"):
        world.trainings.start(1, "flights", [])
    world.cluster.away = False
    assert world.trainings.age(1) is None


@pytest.mark.parametrize("ask", [lambda t: t.age(1), lambda t: t.end(1), lambda t: t.start(1, "flights", [])])
@pytest.mark.parametrize("code", [429, 500, 503])
def test_an_api_that_is_away_or_overloaded_is_asked_again(
    world: World, ask: Callable[[JobTrainings], object], code: int
) -> None:
    world.trainings.start(1, "flights", [])
    world.cluster.away = True
    with pytest.raises(UnreachableError):
        ask(world.trainings)
    world.cluster.away, world.cluster.refuses = False, code
    with pytest.raises(UnreachableError, match=str(code)):
        world.trainings.start(1, "flights", [])


@pytest.mark.parametrize("code", [400, 403, 422])
def test_a_submission_that_is_refused_says_why(world: World, code: int) -> None:
    world.cluster.refuses = code
    with pytest.raises(RefusedError, match=f"answers {code}: .*(no such runtime environment|forbidden)"):
        world.trainings.start(1, "flights", [])


def arguments(settings: Settings, job: Path) -> list[str]:
    files = ["--result", str(job / "result.json")]
    return ["train", "flights", "--hold-out", "0.1", "--promote", "never", "--store", str(settings.model_store), *files]


def test_ray_gets_the_command_its_variables_and_its_cores(tmp_path: Path) -> None:
    cluster = FakeRay()
    settings = Settings(model_store=tmp_path / "the store", run_dir=tmp_path / "run")
    trainings = JobTrainings(settings, ray(cluster))
    trainings.rows(1).parent.mkdir(parents=True)
    trainings.start(1, "flights", ["--hold-out", "0.1"])
    (job,) = cluster.jobs.values()
    assert shlex.split(job["entrypoint"])[1:] == ["-m", "training", *arguments(settings, trainings.rows(1).parent)]
    assert (job["entrypoint_num_cpus"], job["runtime_env"]) == (2, {"env_vars": VARIABLES})


def test_kubernetes_gets_the_manifest_with_name_command_and_variables(tmp_path: Path) -> None:
    cluster = FakeKubernetes()
    settings = Settings(model_store=tmp_path / "store", run_dir=tmp_path / "run")
    trainings = JobTrainings(settings, kubernetes(cluster))
    trainings.rows(1).parent.mkdir(parents=True)
    before = yaml.safe_dump(MANIFEST)
    trainings.start(1, "flights", ["--hold-out", "0.1"])
    ((name, job),) = cluster.jobs.items()
    assert job["metadata"]["name"] == name
    assert "generateName" not in job["metadata"]
    assert job["metadata"]["labels"] == {"team": "flights", "app.kubernetes.io/managed-by": "marloop"}
    assert (job["spec"]["backoffLimit"], job["spec"]["template"]["spec"]["restartPolicy"]) == (0, "Never")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "marloop:1"
    assert container["command"] == ["marloop", *arguments(settings, trainings.rows(1).parent)]
    assert "args" not in container
    assert {entry["name"]: entry["value"] for entry in container["env"]} == {"TZ": "UTC", **VARIABLES}
    assert yaml.safe_dump(MANIFEST) == before


def test_a_pod_that_cannot_begin_says_why(tmp_path: Path) -> None:
    cluster = FakeKubernetes()
    trainings = JobTrainings(Settings(model_store=tmp_path, run_dir=tmp_path / "run"), kubernetes(cluster))
    trainings.rows(1).parent.mkdir(parents=True)
    trainings.start(1, "flights", [])
    cluster.waits = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "marloop:1"'}}
    assert trainings.progress(1) == 'the pod waits: ImagePullBackOff Back-off pulling image "marloop:1"'


@pytest.mark.parametrize(
    "content",
    ["", "[]", "kind: Job", "{{", yaml.safe_dump(MANIFEST | {"kind": "Pod"}), yaml.safe_dump(MANIFEST | {"spec": {}})],
)
def test_a_manifest_that_is_no_job_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=f"{file}, the manifest of trainings, "):
        read_manifest(file)


def launcher(environ: dict[str, str], tmp_path: Path) -> Launcher:
    return launcher_of(TrainingPlace.from_environment(environ), Settings(run_dir=tmp_path), environ)


def test_the_environment_names_the_place(tmp_path: Path) -> None:
    manifest = tmp_path / "job.yaml"
    manifest.write_text(yaml.safe_dump(MANIFEST))
    assert isinstance(launcher({}, tmp_path), ProcessLauncher)
    assert isinstance(launcher({"MARLOOP_TRAIN_ON": "ray"}, tmp_path), RayLauncher)
    cluster = {"MARLOOP_TRAIN_ON": "kubernetes", "MARLOOP_TRAIN_KUBERNETES_URL": "http://127.0.0.1:8001"}
    cluster["MARLOOP_TRAIN_KUBERNETES_MANIFEST"] = str(manifest)
    assert isinstance(launcher(cluster, tmp_path), KubernetesLauncher)


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        ({"MARLOOP_TRAIN_ON": "slurm"}, "MARLOOP_TRAIN_ON is 'slurm'; it must be kubernetes or process or ray"),
        ({"MARLOOP_TRAIN_ON": "kubernetes"}, "MARLOOP_TRAIN_KUBERNETES_MANIFEST must name"),
    ],
)
def test_a_place_that_cannot_be_is_told_by_its_variable(tmp_path: Path, environ: dict[str, str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        launcher(environ, tmp_path)


def test_outside_a_pod_the_address_of_kubernetes_must_be_named(tmp_path: Path) -> None:
    manifest = tmp_path / "job.yaml"
    manifest.write_text(yaml.safe_dump(MANIFEST))
    environ = {"MARLOOP_TRAIN_ON": "kubernetes", "MARLOOP_TRAIN_KUBERNETES_MANIFEST": str(manifest)}
    with pytest.raises(ValueError, match="MARLOOP_TRAIN_KUBERNETES_URL must name the API server"):
        launcher(environ, tmp_path)


def test_a_token_of_ray_is_sent(tmp_path: Path) -> None:
    made: Any = launcher({"MARLOOP_TRAIN_ON": "ray", "RAY_AUTH_TOKEN": "secret"}, tmp_path)
    assert made._api._client.headers["Authorization"] == "Bearer secret"


def test_a_submission_whose_answer_is_lost_is_made_again_by_its_name_and_runs_once(world: World) -> None:
    world.cluster.away = True
    with pytest.raises(UnreachableError):
        world.trainings.start(1, "flights", [])
    world.cluster.away = False
    name = (world.trainings.rows(1).parent / "submission").read_text().split()[0]
    world.trainings.start(1, "flights", [])
    assert list(world.cluster.jobs) == [name]
    world.trainings.start(1, "flights", [])  # another attempt
    assert len(world.cluster.jobs) == 2


def test_without_an_address_trainings_run_in_the_ray_hosts_own_cluster_by_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environ = {"MARLOOP_TRAIN_ON": "ray"}
    settings = Settings(run_dir=tmp_path / "run", host="ray", ray_port=7000)
    made: Any = launcher_of(TrainingPlace.from_environment(environ), settings, environ)
    client = made._api._client
    assert str(client.base_url) == "http://127.0.0.1:7001"
    token = Place(settings).token
    token.parent.mkdir()
    for value in ("first", "second"):  # a head that is started anew makes another
        token.write_text(value)
        request = next(client.auth.auth_flow(client.build_request("GET", "/api/jobs/")))
        assert request.headers["Authorization"] == f"Bearer {value}"
    elsewhere: Any = launcher_of(TrainingPlace.from_environment(environ), Settings(run_dir=tmp_path), environ)
    assert str(elsewhere._api._client.base_url) == "http://127.0.0.1:8265"
