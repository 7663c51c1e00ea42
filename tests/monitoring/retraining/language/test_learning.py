"""Approved conversations start a job of a language model, which learns some, is judged on the others, and watched."""

import json
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring.retraining import runner
from monitoring.retraining.challenge import Challenges
from monitoring.retraining.language.approved import split
from monitoring.retraining.language.learning import METRIC, ConversationLearning
from monitoring.retraining.language.policy import ConversationPolicy
from monitoring.retraining.policy import RetrainPolicy, WatchPolicy
from monitoring.retraining.promotions import Promotions
from monitoring.retraining.queue import Retraining, RetrainRefused
from monitoring.retraining.result import Verdict
from monitoring.retraining.runner import Runner
from monitoring.retraining.stages import Stages
from monitoring.retraining.watch import Watch
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import open_store
from monitoring.store.records import Feedback, Job
from monitoring.store.reviews import Reviews
from serving.registry import Registry
from tests.support.chat_archive import register_echo
from tests.support.monitoring.conversations import conversation
from tests.support.monitoring.loops import FakeRollout, FakeTrainings, FakeVersions
from tests.support.monitoring.worlds import NOW
from training.language.evaluation.comparison import Comparison, Trial
from training.packaging.result_file import Trained
from training.statistics.pair import Pair

MODEL = "chat"
POLICY = ConversationPolicy(new=40, thumbs=10)


class Judged(ConversationLearning):
    """Judges as the test says."""

    better = True
    judged: Sequence[Any] = ()

    def judge(self, model: str, numbers: Pair[str], now: datetime) -> Verdict:
        self.judged = [*self.judged, numbers]
        reason = "it finds the given answer likelier" if self.better else "it answers otherwise"
        return Verdict(self.better, reason, (), METRIC, 0.3, 0.7, None, None, 20)


class World:
    """A loop that looks after a language model with the champion 1.0."""

    def __init__(self, folder: Path, policy: ConversationPolicy = POLICY) -> None:
        self.now, self.models = NOW, Registry(folder / "models")
        register_echo(self.models.store, MODEL, 2, 2, 0.0)
        self.store = open_store(f"sqlite:///{folder / 'monitor.db'}")
        self.reviews = Reviews(self.store.database)
        contracts, retrain, clock = Contracts(self.models), RetrainPolicy(), lambda: self.now
        self.rollout, self.trainings = FakeRollout(self.models), FakeTrainings(folder)
        self.rollout.serving[MODEL] = ["1.0"]
        versions = FakeVersions(self.rollout, self.store)
        self.learning = Judged(self.store, contracts, policy, retrain, folder)
        promotions = Promotions(self.store.journal, self.models, self.rollout, clock)
        self.retraining = Retraining(self.store, contracts, retrain, lambda _: None, clock, self.learning)
        challenges = Challenges(self.store.journal, promotions, versions, retrain)
        watch = Watch(self.store, promotions, versions, WatchPolicy(), self.learning)
        stages = Stages(self.store, promotions, versions, self.trainings, watch, retrain, self.learning)
        parts = (self.retraining, challenges, stages, watch)
        self.runner = Runner(runner.Loop(self.store.journal, promotions, versions, *parts), interval=0)

    def talk(self, count: int, version: str = "1.0", start: int = 0, label: str = "") -> list[str]:
        names = [f"{version}-{start + i}" for i in range(count)]
        hours = (self.now - NOW) / timedelta(hours=1)
        self.store.add_predictions([conversation(name, version=version, hours=hours) for name in names])
        if label:
            self.store.add_feedback([Feedback(name, 0, label, self.now) for name in names])
        return names

    def approve(self, names: Sequence[str]) -> None:
        self.reviews.decide(MODEL, [(name, 0) for name in names], "approved", self.now)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.runner.look(threading.Event())

    def jobs(self) -> list[Job]:
        return self.store.journal.jobs(MODEL)

    def learn(self, number: str = "1.1") -> None:
        """What the training command does when it ends."""
        (job, *_) = self.jobs()
        register_echo(self.models.store, MODEL, 2, 2, 0.0, version=number)
        self.trainings.results[job.id] = Trained(MODEL, number, "", "challenger")
        self.trainings.running.pop(job.id, None)

    def champion(self) -> str:
        return self.models.champion(MODEL).number


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def promoted(world: World) -> Job:
    world.approve(world.talk(60))
    world.look(2)
    world.learn()
    world.look(4)
    return world.jobs()[0]


def test_enough_approved_conversations_start_a_job_and_fewer_do_not(world: World) -> None:
    names = world.talk(60)
    world.approve(names[:39])
    world.look(3)
    assert world.jobs() == []
    assert world.store.journal.decisions(MODEL) == []
    world.approve(names)
    world.look()
    (job,) = world.jobs()
    assert (job.trigger, job.reason) == ("approval", "60 conversations were approved")


def test_a_job_learns_what_is_not_held_out(world: World) -> None:
    world.approve(world.talk(60))
    world.look(3)
    ((id, _, options),) = world.trainings.started
    assert options[-2:] == ["--instructions", str(world.trainings.rows(id))]
    learned = [json.loads(line)["messages"] for line in world.trainings.rows(id).read_text().splitlines()]
    keep, held_out = split(world.reviews.conversations(MODEL, "approved"), POLICY.holdout)
    assert learned == [one.messages for one in keep]
    assert len(learned) + len(held_out) == 60
    assert len(held_out) >= 5
    assert world.jobs()[0].result.rows == len(learned)


def test_the_better_version_is_promoted_with_its_reason(world: World) -> None:
    job = promoted(world)
    assert (job.state, world.champion()) == ("promoted", "1.1")
    assert world.learning.judged == [Pair("1.0", "1.1")]
    assert "it finds the given answer likelier" in job.progress


def test_another_one_is_refused_with_the_reason(world: World) -> None:
    world.learning.better = False
    job = promoted(world)
    assert (job.state, world.champion()) == ("refused", "1.0")
    assert job.progress == "refused: it answers otherwise"


def test_the_same_conversations_start_no_second_job(world: World) -> None:
    world.learning.better = False
    promoted(world)
    world.now += timedelta(days=2)
    world.look(3)
    assert len(world.jobs()) == 1
    world.approve(world.talk(40, start=100))
    world.look()
    assert world.jobs()[0].reason == "40 conversations were approved since the last retraining"


def test_within_the_cooldown_nothing_is_asked_and_nothing_recorded(world: World) -> None:
    promoted(world)
    before = world.store.journal.decisions(MODEL)
    world.now += timedelta(hours=1)
    world.approve(world.talk(40, start=100))
    world.look(3)
    assert len(world.jobs()) == 1
    assert world.store.journal.decisions(MODEL) == before


def test_by_hand_a_few_do_but_both_parts_need_some(world: World) -> None:
    world.approve(world.talk(8))
    with pytest.raises(RetrainRefused, match="8 approved conversations|approved conversations to learn"):
        world.retraining.request(MODEL, "hand", "now")
    world.approve(world.talk(90, start=100))
    assert world.retraining.request(MODEL, "hand", "now").trigger == "hand"


@pytest.mark.parametrize(("label", "champion"), [("down", "1.0"), ("up", "1.1")])
def test_thumbs_that_are_worse_roll_a_version_back(world: World, label: str, champion: str) -> None:
    world.talk(20, start=500, label="up")
    promoted(world)
    world.now += timedelta(hours=1)
    world.talk(9, "1.1", label=label)
    world.look(2)
    assert world.champion() == "1.1"  # too few
    world.talk(11, "1.1", start=50, label=label)
    world.look(2)
    assert world.champion() == champion
    if champion == "1.0":
        (decision,) = [one for one in world.store.journal.decisions(MODEL) if one.kind == "rolled_back"]
        assert "0% of 20 thumbs of 1.1 are up, and 100% of 20 of 1.0" in decision.details["reason"]


def test_the_judge_runs_the_tasks_of_the_settings_on_both_versions(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval, of the extra evaluate, is not installed")
    tried: list[Trial] = []

    def compare(registry: Registry, model: str, numbers: Pair[str], trial: Trial) -> Comparison:
        tried.append(trial)
        return Comparison(worse=["it knows fewer capitals"])

    monkeypatch.setattr("training.language.evaluation.comparison.compare_versions", compare)
    policy = ConversationPolicy.from_environment({"MARLOOP_CONVERSATIONS_TASKS": "docs/examples/tasks"})
    learning = ConversationLearning(world.store, Contracts(world.models), policy, RetrainPolicy(), tmp_path)
    verdict = learning.judge(MODEL, Pair("1.0", "1.1"), NOW)
    assert (verdict.promote, verdict.reason) == (False, "it knows fewer capitals")
    ((tasks, only_fitting),) = [(trial.tasks, trial.only_fitting) for trial in tried]
    assert tasks is not None
    assert tasks.names == ("capitals", "sentences", "sequences")
    assert only_fitting
