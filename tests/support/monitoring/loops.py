"""The loop of retraining on a store and a registry of the test's own, with a TorchServe and trainings that are not."""

import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from handlers.contract import ModelContract
from monitoring.retraining import runner
from monitoring.retraining.challenge import Challenges
from monitoring.retraining.launch.launcher import RefusedError, UnreachableError
from monitoring.retraining.launch.trainings import JobTrainings
from monitoring.retraining.policy import RetrainPolicy, WatchPolicy
from monitoring.retraining.promotions import Promotions
from monitoring.retraining.queue import Retraining
from monitoring.retraining.result import Check, Shadowed, Verdict, Watched
from monitoring.retraining.runner import Runner
from monitoring.retraining.stages import Stages
from monitoring.retraining.versions import Versions
from monitoring.retraining.watch import Watch
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import Store, open_store
from monitoring.store.records import Feedback, Job, Labelled, Prediction
from serving.hosts.host import LaunchError, Rollout
from serving.readiness import Readiness
from serving.registry import Registry
from tests.support.serving.stores import add
from training.packaging.result_file import Trained
from training.statistics.pair import Pair
from training.statistics.paired import Gain

MODEL = "doubling"
START = datetime(2013, 2, 17, 12, tzinfo=UTC)
POLICY = RetrainPolicy(rows=10)


def verdict_of(job: Job) -> Verdict:
    assert job.result.verdict
    return job.result.verdict


def shadowed_of(job: Job) -> Shadowed:
    assert job.result.shadow
    return job.result.shadow


def watched_of(job: Job) -> Watched:
    assert job.result.watch
    return job.result.watch


class Killed(BaseException):
    """The monitor is killed here."""


class FakeRollout(Rollout):
    """Notes what is served, and does to the registry what the real one does."""

    def __init__(self, models: Registry) -> None:
        self.models = models
        self.serving: dict[str, list[str]] = {}  # by model, the default first
        self.refuses = False
        self.kill = ""  # at "before" or "after" the registry has changed

    def answers(self) -> bool:
        return True

    def beside(self, name: str, number: str) -> None:
        if self.refuses:
            raise LaunchError("broken archive")
        self.serving.setdefault(name, []).extend([number] if number not in self.serving.get(name, []) else [])

    def withdraw(self, name: str, number: str) -> None:
        if number in self.serving.get(name, [])[1:]:
            self.serving[name].remove(number)

    def promote(self, name: str, number: str) -> str:
        self.beside(name, number)
        former, _ = self.models.champions()[name]
        self._die("before")
        self.models.promote(name, number)
        self._die("after")
        self.serving[name] = [number]
        return former

    def converge(self, keep: Collection[tuple[str, str]] = ()) -> None:
        for name, (number, _) in self.models.champions().items():
            kept = [one for one in self.serving.get(name, []) if (name, one) in keep and one != number]
            self.serving[name] = [number, *kept]

    def _die(self, where: str) -> None:
        if self.kill == where:
            self.kill = ""
            raise Killed


class FakeTrainings(JobTrainings):
    """Trainings that end when the test says so."""

    outlive = False

    place = "here:jobs"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[int, float] = {}  # seconds that it has run for
        self.started: list[tuple[int, str, Sequence[str]]] = []
        self.ended: list[int] = []
        self.results: dict[int, Trained] = {}
        self.line = "doubling: fitting"
        self.away = ""  # why nothing is known of any training
        self.refuses = ""  # why none is started

    def rows(self, id: int) -> Path:
        return self.folder / f"rows-{id}.jsonl"

    def log(self, id: int) -> Path:
        return self.folder / f"train-{id}.log"

    def clear(self, id: int) -> None:
        self.results.pop(id, None)

    def start(self, id: int, model: str, options: Sequence[str]) -> int:
        if self.refuses:
            raise RefusedError(self.refuses)
        self.started.append((id, model, options))
        self.running[id] = 0.0
        return 4000 + len(self.started)

    def age(self, id: int) -> float | None:
        self._answer()
        return self.running.get(id)

    def end(self, id: int) -> None:
        self._answer()
        if self.running.pop(id, None) is not None:
            self.ended.append(id)

    def under_way(self) -> list[int]:
        return list(self.running)

    def end_former(self, id: int, place: str) -> None:
        """No other monitor has left one."""

    def result(self, id: int) -> Trained | None:
        return self.results.get(id)

    def progress(self, id: int) -> str:
        return self.line

    def last_lines(self, id: int) -> str:
        return "Traceback: out of memory"

    def _answer(self) -> None:
        if self.away:
            raise UnreachableError(self.away)


class FakeVersions(Versions):
    """Answers as the test says."""

    def __init__(self, rollout: FakeRollout, store: Store) -> None:
        self.rollout, self.store = rollout, store
        self.sendable = (200, 20)  # captured requests that can be sent again, and how many are needed
        self.code = ""  # that an archive holds
        self.decided = False  # whether the last shadow decided alone
        self.serves = True  # whether TorchServe answers
        self.judged: list[tuple[str, str, int]] = []
        self.better, self.alike = True, True
        self.shadowing: Callable[[], object] = lambda: None
        self.probes: dict[str, tuple[bool, float]] = {}  # by version: whether it answers right, and in how many ms
        self.gain = Gain(champion=1.0, challenger=1.0, low=-0.1, high=0.1)  # of the former one over the newer one

    def answers(self) -> bool:
        return self.serves

    def judge(self, model: str, numbers: Pair[str], rows: Sequence[Labelled]) -> Verdict:
        self.judged.append((*numbers, len(rows)))
        reason = "its RMSE is lower" if self.better else "its RMSE is no lower"
        check = Check("gain", self.better, reason)
        return Verdict(self.better, reason, (check,), "rmse", 2.0, 1.0, 0.1, 0.9, len(rows))

    def admit(self, model: str, numbers: Pair[str]) -> Verdict:
        self.judged.append((*numbers, 0))
        reason = "a client can go on" if self.better else "input x is gone"
        return Verdict(self.better, reason, (Check("contract", self.better, reason),), "", None, None, None, None, 0)

    def contracts(self, model: str, numbers: Pair[str]) -> Pair[ModelContract]:
        versions = self.rollout.models.models()[model]
        return numbers.map(lambda number: self.rollout.models.contract(versions[number]))

    def labelled(self, contract: ModelContract, since: datetime, limit: int) -> list[Labelled]:
        return self.store.labelled(contract.name, since=since, limit=limit)

    def code_in(self, model: str, numbers: Pair[str]) -> str:
        return self.code

    def requests(self, contract: ModelContract) -> tuple[int, int]:
        return self.sendable

    def compare(self, model: str, numbers: Pair[str], rows: Sequence[Labelled]) -> Gain | None:
        return self.gain

    def shadow(self, model: str, numbers: Pair[str], stop: threading.Event, decides: bool = False) -> Shadowed:
        self.decided = decides
        assert numbers.challenger in self.rollout.serving[model]
        self.shadowing()
        reason = "as good" if self.alike else "3 of 20 requests failed"
        return Shadowed(20, 20, 0 if self.alike else 3, 1.0, 4.0, 4.0, 6.0, 6.0, self.alike, reason)

    def probe(self, model: str, version: str) -> Readiness:
        ready, ms = self.probes.get(version, (True, 4.0))
        return Readiness(model, version, ready, "" if ready else "500", ms)

    def training_options(self, model: str) -> list[str]:
        return ["--preset", "default"]


class Loop:
    """A monitor's loop; ``restart`` is a new one on the same store.

    The model has a champion 1.0 and 20 labelled rows, one an hour, the newest now.
    """

    def __init__(self, folder: Path, policy: RetrainPolicy = POLICY, watch: WatchPolicy | None = None) -> None:
        self.now = START
        self.models = Registry(folder / "models")
        add(self.models, MODEL, "1.0")
        self.store = open_store(f"sqlite:///{folder / 'monitor.db'}")
        self.policy, self.watch_policy = policy, watch or WatchPolicy(rows=10)
        self.rollout, self.trainings = FakeRollout(self.models), FakeTrainings(folder)
        self.rollout.serving[MODEL] = ["1.0"]
        self.versions = FakeVersions(self.rollout, self.store)
        self.unlearnable: str | None = None
        self.label(range(-19, 1))
        self.restart()

    def restart(self) -> None:
        contracts = Contracts(self.models)
        self.promotions = Promotions(self.store.journal, self.models, self.rollout, self.clock)
        self.retraining = Retraining(self.store, contracts, self.policy, lambda _: self.unlearnable, self.clock)
        self.challenges = Challenges(self.store.journal, self.promotions, self.versions, self.policy)
        watch = Watch(self.store, self.promotions, self.versions, self.watch_policy)
        stages = Stages(self.store, self.promotions, self.versions, self.trainings, watch, self.policy)
        journal, parts = self.store.journal, (self.retraining, self.challenges, stages, watch)
        self.runner = Runner(runner.Loop(journal, self.promotions, self.versions, *parts), interval=0)

    def clock(self) -> datetime:
        return self.now

    def label(self, hours: Sequence[float], version: str = "1.0", delay: timedelta = timedelta(0)) -> None:
        """Keep a labelled row at each of these hours from the start."""
        times = [START + timedelta(hours=hour) for hour in hours]
        ids = [f"{version} at {time}" for time in times]
        made = zip(ids, times, strict=True)
        self.store.add_predictions(Prediction(id, 0, MODEL, version, time, {"x": 1.0}, 2.0) for id, time in made)
        self.store.add_feedback([Feedback(id, 0, 2.0, time + delay) for id, time in zip(ids, times, strict=True)])

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.runner.look(threading.Event())

    def request(self) -> int:
        return self.retraining.request(MODEL, "hand", "a test").id

    def job(self, id: int = 1) -> Job:
        return self.store.journal.job(id)

    def train(self, id: int = 1, version: str = "1.1", since: datetime | None = None) -> None:
        """What the training command does when it ends."""
        add(self.models, MODEL, version, "challenger")
        held_out = (since or START - timedelta(hours=3)).isoformat()
        self.trainings.results[id] = Trained(MODEL, version, "", "challenger", "as asked", held_out)
        self.trainings.running.pop(id, None)

    def promote(self, version: str = "1.1") -> Job:
        """A job from its request to its promotion."""
        id = self.request()
        self.look()
        self.train(id, version)
        self.look(4)
        return self.job(id)

    def kinds(self) -> list[str]:
        return [one.kind for one in reversed(self.store.journal.decisions(MODEL))]

    def champions(self) -> list[str]:
        versions = self.models.models()[MODEL]
        return [number for number, version in versions.items() if version.state == "champion"]

    def state(self, version: str) -> str:
        return self.models.models()[MODEL][version].state
