"""Counting alarms, on the stream that is made up and on one of a few days."""

from pathlib import Path

import numpy as np
import pytest

from monitoring.calibration.false_alarms import (
    CONTIGUOUS,
    ROWS,
    Cell,
    Share,
    count,
    draw_windows,
    markdown,
    measure_cells,
    write_table,
)
from monitoring.calibration.streams import rare
from monitoring.calibration.timeline import Timeline
from monitoring.store.records import Labelled
from serving.registry import Registry
from training.recipe import Split


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    folder = tmp_path_factory.mktemp("streams")
    return rare(Registry(folder), folder)


def test_rare_events_hardly_ever_alarm_until_the_model_misses_half_of_them(stream: Timeline) -> None:
    chance, made = np.random.default_rng(0), dict[int, Labelled]()
    for rows in (200, 2500):
        known = count(stream, draw_windows(stream, range(stream.reference_rows), None, rows, 25, chance), made)
        assert (known.windows, known.judged) == (25, 25)
        assert max(known.alarms.values()) <= 1
    later = count(
        stream, draw_windows(stream, range(stream.reference_rows, len(stream.rows)), None, 5000, 5, chance), made
    )
    assert later.any > 0.5


def test_windows_of_a_span_hold_as_many_rows_as_asked(stream: Timeline) -> None:
    times = np.arange(0, 30 * 86_400, 600)
    target = np.zeros(len(times), np.int64)
    timed = Timeline(stream.contract, Split({"score": times}, target, time=times), len(times), stream.output)
    chance = np.random.default_rng(0)
    for window in draw_windows(timed, range(len(times)), 24.5, 200, 5, chance):
        assert len(window) == 200  # of the 147 that came some are taken twice, as a faster service would have more
        assert times[window[-1]] - times[window[0]] <= 24.5 * 3600
    (window,) = draw_windows(timed, range(len(times)), None, 300, 1, chance)
    assert (np.diff(window) == 1).all()


def test_the_newest_rows_of_a_stream_without_times_are_of_all_its_places(stream: Timeline) -> None:
    places = range(stream.reference_rows)
    (window,) = draw_windows(stream, places, None, len(places), 1, np.random.default_rng(0))
    assert sorted(window) == [*places]
    assert window[-1000:].mean() == pytest.approx(len(places) / 2, rel=0.1)


def test_the_table_stands_between_the_marks_of_its_page(stream: Timeline, tmp_path: Path) -> None:
    cells = measure_cells({"rare": stream}, 2, lambda text: None)
    assert [cell.rows for cell in cells] == list(ROWS)
    table = markdown(cells)
    assert "| rare | in no order | " in table
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin of the table -->\nold\n<!-- end of the table -->\nafter\n")
    write_table(cells, page)
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    assert table in page.read_text()
    assert "old" not in page.read_text()
    assert "no verdict" in markdown([Cell("brief", CONTIGUOUS, 200, Share(2, 0, {}), None)])
