"""The course of load over time: five profiles, each of a few stages and bounded in time."""

from dataclasses import dataclass, replace
from typing import Literal

ProfileName = Literal["smoke", "load", "stress", "spike", "soak"]
RECOVERY = "recovery"  # name of a stage that is also judged alone, without its first second
SETTLING = 1.0  # s, that second


@dataclass(frozen=True)
class Stage:
    """A part of a profile.

    Attributes:
        name: printed when the stage begins.
        seconds: duration.
        users: number of concurrent users.
        ramp: seconds until their number is reached.
    """

    name: str
    seconds: float
    users: int
    ramp: float = 1.0


@dataclass(frozen=True)
class Profile:
    """A course of load.

    Attributes:
        pacing: seconds from one request of a user to its next, if answers are quicker; 0 is without a pause.
    """

    name: ProfileName
    description: str
    stages: tuple[Stage, ...]
    pacing: float = 0.1

    @property
    def seconds(self) -> float:
        """Return the sum of the stages' seconds."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak(self) -> int:
        """Return the largest number of users."""
        return max(stage.users for stage in self.stages)

    def scaled(self, users: int | None = None, seconds: float | None = None) -> "Profile":
        """Return the same course with another peak of users, or another length."""
        more, longer = (users or self.peak) / self.peak, (seconds or self.seconds) / self.seconds
        stages = [
            replace(
                stage,
                users=max(1, round(stage.users * more)),
                seconds=stage.seconds * longer,
                ramp=stage.ramp * min(1.0, longer),
            )
            for stage in self.stages
        ]
        return replace(self, stages=tuple(stages))

    def stage_at(self, elapsed: float) -> int | None:
        """Return the index of the stage that runs after ``elapsed`` seconds; None when all are over."""
        for index, stage in enumerate(self.stages):
            elapsed -= stage.seconds
            if elapsed < 0:
                return index
        return None

    def target(self, index: int, now: int) -> tuple[int, float]:
        """Return the users of a stage, and how many start or stop a second to reach them from ``now`` users."""
        stage = self.stages[index]
        return stage.users, max(1.0, abs(stage.users - now) / stage.ramp)


_STEPS = (16, 64, 256, 512, 1024, 1536)  # the last is past the 1,000 requests that wait for a model's worker

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("smoke", "does everything answer: 5 users", (Stage("steady", 15, 5),)),
        Profile("load", "an ordinary day: 32 users", (Stage("rise", 15, 32, ramp=15), Stage("steady", 105, 32))),
        Profile(
            "stress",
            "where it ends: up to 1,536 users without a pause",
            tuple(Stage(f"{users} users", 15, users) for users in _STEPS),
            pacing=0.0,
        ),
        Profile(
            "spike",
            "a crowd, and what is left of it: 8 users, 512, 8",
            (Stage("calm", 10, 8), Stage("spike", 15, 512), Stage(RECOVERY, 20, 8)),
        ),
        Profile("soak", "ten minutes: 16 users", (Stage("steady", 600, 16),)),
    )
}
