"""The handlers' core measured alone: by format and batch size, and against another checkout."""

import re

import msgspec
import pytest
from typer import Typer
from typer.testing import CliRunner

from handlers.message import JSON, Request
from loadtests.bench import core
from serving.settings import ROOT


def test_each_case_has_its_time_and_that_of_its_stages() -> None:
    cases = core.Cases()
    assert {
        f"{name}, {size}" for name in ("flights, npy", "fashion, png", "fashion, v2 binary") for size in (1, 64)
    } < {*cases.names()}
    measured = cases.measure("flights, native, 64")
    assert all(0 < microseconds < 1e6 for microseconds in msgspec.structs.astuple(measured))


def test_a_request_that_is_refused_is_told_instead_of_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Request(b"{}", {"content-type": JSON})
    monkeypatch.setattr(core, "writers", lambda contract: {"empty": lambda tensors: empty})
    with pytest.raises(RuntimeError, match="flights, empty, 1: .*missing_field"):
        core.Cases().measure("flights, empty, 1")


def test_two_checkouts_are_measured_in_turn_and_compared() -> None:
    app = Typer()
    app.command()(core.main)
    words = ["--against", str(ROOT), "--rounds", "1", "--only", "flights, native, 1"]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if "flights, native, 1 " in line]
    before, after, ratio, *_ = map(float, re.findall(r"\d+\.\d+", line))
    assert ratio == pytest.approx(after / before, rel=0.2)
