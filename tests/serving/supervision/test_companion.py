"""A service in the background: started once, found again, stopped, and its end explained."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from serving.ports import free_ports
from serving.settings import Settings
from serving.supervision import companion
from serving.supervision.companion import Companion, CompanionError


@pytest.fixture
def own(settings: Settings) -> Settings:
    (port,) = free_ports(1)
    return replace(settings, exporter_port=port)


@pytest.fixture
def exporter(own: Settings) -> Iterator[Companion]:
    one = companion.exporter(own)
    yield one
    one.stop(own)


def test_it_is_started_once_and_answers_until_it_is_stopped(own: Settings, exporter: Companion) -> None:
    assert exporter.find(own) is None
    assert exporter.stop(own) == 0
    assert exporter.start(own)
    process = exporter.find(own)
    assert process is not None
    assert not exporter.start(own)
    assert exporter.find(own) == process
    assert exporter.answers()
    assert exporter.stop(own) == 1
    assert exporter.find(own) is None
    assert not exporter.answers()


def test_another_run_folders_is_not_taken_for_ours(own: Settings, exporter: Companion, tmp_path: Path) -> None:
    exporter.start(own)
    assert exporter.find(replace(own, run_dir=tmp_path / "other")) is None


def test_one_that_ends_is_an_error_with_the_end_of_its_log(own: Settings) -> None:
    broken = Companion("broken", ("serving", "no-such-command"), "http://127.0.0.1:1")
    with pytest.raises(CompanionError, match=r"(?s)the broken ended. The end of .*/broken.log:.*No such command"):
        broken.start(own)
