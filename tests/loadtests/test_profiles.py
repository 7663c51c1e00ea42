"""Every profile ends, and can be made larger or shorter."""

import json
import subprocess
import sys

import pytest

from loadtests.profiles import PROFILES, RECOVERY, SETTLING, Profile, Stage
from serving.settings import ROOT

LONGEST = 15 * 60  # s
TINY = Profile("smoke", "two stages", (Stage("up", 4, 10, ramp=2), Stage("down", 6, 5)))


def test_there_are_the_five_profiles_and_each_is_bounded_in_time() -> None:
    assert set(PROFILES) == {"smoke", "load", "stress", "spike", "soak"}
    for profile in PROFILES.values():
        assert 0 < profile.seconds <= LONGEST
        assert all(stage.ramp <= stage.seconds for stage in profile.stages)


def test_the_stages_follow_each_other_and_end() -> None:
    assert [TINY.stage_at(second) for second in (0, 3.9, 4, 9.9, 10, 1000)] == [0, 0, 1, 1, None, None]


def test_the_number_of_users_changes_within_the_ramp() -> None:
    assert TINY.target(0, now=0) == (10, 5.0)
    assert TINY.target(1, now=10) == (5, 5.0)
    assert TINY.target(1, now=5) == (5, 1.0)


def test_another_peak_and_another_length_scale_every_stage() -> None:
    scaled = TINY.scaled(users=100, seconds=5)
    assert scaled.stages == (Stage("up", 2, 100, ramp=1), Stage("down", 3, 50, ramp=0.5))
    assert (scaled.peak, scaled.seconds) == (100, 5)
    assert TINY.scaled() == TINY
    assert TINY.scaled(users=1).stages[1].users == 1


def test_the_spike_returns_to_the_calm_that_it_came_from() -> None:
    calm, spike, recovery = PROFILES["spike"].stages
    assert calm.users == recovery.users < spike.users
    assert recovery.name == RECOVERY
    assert recovery.seconds > 10 * SETTLING


Followed = tuple[float, list[tuple[int, float]], list[str], bool]
FOLLOW = """
import json, sys
from loadtests.profiles import PROFILES, Profile, Stage
from loadtests.shapes import ProfileShape
found = {}
profiles = {name: profile.scaled(None, 30) for name, profile in PROFILES.items()}
blink = Profile("smoke", "", (Stage("crowd", 1.5, 100), Stage("blink", 0.4, 8), Stage("calm", 5, 8)))
profiles["blink"] = blink
for name, profile in profiles.items():
    class Shape(ProfileShape):
        profile = profile
    shape = Shape()
    clock, begun = [0.0], []
    shape.get_run_time = lambda clock=clock: clock[0]
    shape.on_stage = lambda stage, begun=begun: begun.append(stage.name)
    ticks = []
    while (tick := shape.tick()) is not None and clock[0] < 100:
        ticks.append(tick)
        clock[0] += 1
    found[name] = [clock[0], ticks, begun, shape.finished]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def followed() -> dict[str, Followed]:
    """Each shape of 30 s followed to its end, in a process of its own: importing Locust changes Python's sockets."""
    done = subprocess.run([sys.executable, "-c", FOLLOW], cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, Followed] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", PROFILES)
def test_a_shape_goes_through_its_profile_and_ends(followed: dict[str, Followed], name: str) -> None:
    seconds, ticks, begun, finished = followed[name]
    assert 30 <= seconds <= 31
    assert max(users for users, _ in ticks) == PROFILES[name].peak
    assert begun == [stage.name for stage in PROFILES[name].stages]
    assert finished


def test_a_crowd_goes_as_quickly_as_it_came(followed: dict[str, Followed]) -> None:
    _, ticks, _, _ = followed["spike"]
    changes = [tick for i, tick in enumerate(ticks) if i == 0 or tick != ticks[i - 1]]
    assert [users for users, _ in changes] == [8, 512, 8]
    assert changes[2][1] == changes[1][1] >= 504


def test_after_a_stage_too_short_for_a_tick_the_users_still_change_at_once(followed: dict[str, Followed]) -> None:
    _, ticks, begun, _ = followed["blink"]
    assert begun == ["crowd", "calm"]
    assert [tuple(tick) for tick in ticks[1:3]] == [(100, 100), (8, 92)]
