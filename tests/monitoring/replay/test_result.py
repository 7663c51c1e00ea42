"""What a replay found, and how it is shown; the committed page is what the committed figures say."""

from datetime import UTC, date, datetime
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from monitoring.replay import page
from monitoring.replay.drive import DayErrors, Drive, Retrained, rmse
from monitoring.replay.pace import Pace
from monitoring.replay.result import FELL, result_of
from monitoring.replay.stack import Stack
from monitoring.retraining.result import JobResult, Verdict
from monitoring.store.records import Job, State
from serving.settings import ROOT, Settings
from training.improve.practices import document
from training.improve.practices.monitored import Goals, Replay, replay_goals


def errors_of(day: date, frozen: float, loop: float, *alerts: str, rows: int = 100) -> DayErrors:
    return DayErrors(day, rows, frozen, loop, "1.0", alerts)


def job(day: date, state: State, undone: date | None = None) -> Retrained:
    result = JobResult(version="1.1", verdict=Verdict(True, "better", (), "rmse", None, None, None, None, 0))
    created = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Retrained(Job(1, "flights", "alert", FELL, state, created, result=result), day, undone)


@pytest.fixture
def result() -> Replay:
    """Of two days in February, two in April and one in May."""
    with httpx.Client() as client:
        stack = Stack(Settings(), "flights", "", "")
        drive = Drive(stack, client, Pace(stack, client), lambda text: None)
    drive.days = [
        errors_of(date(2013, 2, 27), 100, 100),
        errors_of(date(2013, 2, 28), 100, 100),
        errors_of(date(2013, 4, 1), 400, 100, FELL, "ModelDrift"),
        errors_of(date(2013, 4, 2), 400, 100, "ModelDrift"),
        errors_of(date(2013, 5, 1), 400, 100, rows=200),
    ]
    drive.jobs = {
        2: job(date(2013, 4, 2), "rolled_back", undone=date(2013, 5, 1)),
        1: job(date(2013, 4, 1), "refused"),
    }
    return Replay.from_document(result_of(drive, "flights", "minutes", 1.0, {}, 60.0).to_document())


def test_months_have_the_error_of_both_arms_and_what_happened(result: Replay) -> None:
    february, april, may = result.rows
    assert (february.month, february.rows, february.frozen, february.loop) == ("2013-02", 200, 10, 10)
    assert (april.frozen, april.loop, april.days_with_alert) == (20, 10, 1)
    assert (april.retrainings, april.promoted, april.refused, april.rolled_back) == (2, 1, 1, 0)
    assert (may.retrainings, may.rolled_back) == (0, 1)
    assert [job.day for job in result.jobs] == ["2013-04-01", "2013-04-02"]
    assert result.goals == Goals(saved=0.5, retrainings_known=0, retrainings=2)


def test_the_error_of_several_days_counts_each_row_alike() -> None:
    assert rmse([(100, 4.0), (300, 16.0)]) == pytest.approx(13**0.5)


def test_the_goals_are_told_as_met_or_not(result: Replay) -> None:
    met = replay_goals(result)
    assert met[0].endswith("50.0% lower than the frozen version's; the goal is 33%: met.")
    assert met[1] == "- 2 retrainings from March to December; the goal is at most 15: met."
    assert met[2] == "- 0 retrainings in January and February; the goal is none: met."
    missed = replace(result, goals=Goals(saved=0.3294, retrainings_known=1, retrainings=16))
    assert [line.endswith("**not met**.") for line in replay_goals(missed)] == [True] * 3


def test_the_page_and_the_practices_are_written_from_the_result(result: Replay, tmp_path: Path) -> None:
    (tmp_path / "closed-loop.md").write_text(f"Before.\n{page.MARKS.begin}\nold\n{page.MARKS.end}\nAfter.\n")
    assert [path.name for path in page.write_replay(result, tmp_path)] == [
        "closed-loop.json",
        "closed-loop.png",
        "closed-loop.md",
    ]
    text = (tmp_path / "closed-loop.md").read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("\nAfter.\n")
    assert "| 2013-04 | 200 | 20.00 | 10.00 | 1 | 2 | 1 | 1 | 0 | 0 |" in text
    assert "old" not in text
    assert (tmp_path / "pictures" / "closed-loop.png").read_bytes().startswith(b"\x89PNG")
    assert "| 2013-04 | 200 | 20.00 |" in document.render_folder(tmp_path / document.RESULTS)


def test_a_page_without_its_marks_is_refused_and_left_as_it_is(result: Replay, tmp_path: Path) -> None:
    (tmp_path / "closed-loop.md").write_text("What a loop!")
    with pytest.raises(ValueError, match="closed-loop.md has lost its marks"):
        page.write_replay(result, tmp_path)
    assert (tmp_path / "closed-loop.md").read_text() == "What a loop!"


def test_the_committed_page_and_picture_show_the_committed_figures(tmp_path: Path) -> None:
    docs = ROOT / "docs"
    (tmp_path / "closed-loop.md").write_bytes((docs / "closed-loop.md").read_bytes())
    replay = document.read_results(docs / document.RESULTS)[page.NAME]
    assert isinstance(replay, Replay)
    page.write_replay(replay, tmp_path)
    for name in ("closed-loop.md", "pictures/closed-loop.png"):
        assert (tmp_path / name).read_bytes() == (docs / name).read_bytes()
