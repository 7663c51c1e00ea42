"""What comes before the end of a host: its clients go elsewhere first, however busy the machine is."""

import pytest
from typer.testing import CliRunner

from serving.__main__ import app
from serving.hosts.direct import background
from serving.hosts.direct import board as board_module
from serving.settings import Settings


@pytest.fixture(autouse=True)
def direct(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**settings.to_environment(), "MARLOOP_HOST": "direct", "MARLOOP_ENV_FILE": "off"}.items():
        monkeypatch.setenv(name, value)


def test_clients_are_sent_elsewhere_also_where_no_worker_was_heard_of_lately(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = background.board(settings)
    board.beat({}, {}, {})
    monkeypatch.setattr(board_module, "SILENT", -1.0)
    assert not board.lives()
    assert CliRunner().invoke(app, ["drain", "--seconds", "0"]).exit_code == 0
    assert board.draining()
    board.leave()


def test_where_no_worker_is_nobody_waits(settings: Settings) -> None:
    assert CliRunner().invoke(app, ["drain", "--seconds", "600"]).exit_code == 0
    assert not background.board(settings).draining()
