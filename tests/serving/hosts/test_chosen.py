"""One host runs at a time, and commands find whichever it is."""

import pytest
from msgspec.structs import replace

from serving.hosts import chosen
from serving.hosts.chosen import HOSTS
from serving.hosts.host import LaunchError
from serving.settings import Settings


def test_no_host_runs_where_none_was_started(settings: Settings) -> None:
    assert chosen.running(settings) is None
    assert chosen.chosen(settings) is HOSTS["torchserve"]
    assert chosen.chosen(replace(settings, host="direct")) is HOSTS["direct"]


@pytest.mark.usefixtures("frontend")
def test_beside_a_host_that_runs_no_other_one_is_started(settings: Settings) -> None:
    other = replace(settings, host="direct")
    assert chosen.running(other) is HOSTS["torchserve"]
    with pytest.raises(
        LaunchError, match=r"TorchServe runs here, .* `make down` .* `make up HOST=direct` starts the dir"
    ):
        chosen.start(other, say=print)


def test_the_command_that_starts_a_host_names_it_unless_it_is_the_usual_one(settings: Settings) -> None:
    assert chosen.up(settings) == "make up"
    assert chosen.up(replace(settings, host="direct")) == "make up HOST=direct"
