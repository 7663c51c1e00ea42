from pathlib import Path

import msgspec
import pytest

from loadtests.bench.page import Goal
from loadtests.bench.results import Spread, ratio, spread
from loadtests.bench.tensors import report
from loadtests.bench.tensors.goals import goals
from loadtests.bench.tensors.results import Extremes, Plan, Results, Sample, WholeHost, per_second
from loadtests.wrk import Load


def load(rate: float, latency: float = 1.0, lost: int = 0) -> Load:
    return Load(round(rate * 10), 10.0, 0, lost, latency, 2 * latency, 3 * latency, 9.0)


def results(ours: list[float], theirs: list[float], peer: str = "fastapi-tuned-2") -> Results:
    """A run in which Marloop and one peer answered so many flights a second in each round."""
    samples = [Sample(i, "marloop", "flights", 64, load(rate)) for i, rate in enumerate(ours)]
    samples += [Sample(i, peer, "flights", 64, load(rate)) for i, rate in enumerate(theirs)]
    machine = {"processor": "a CPU", "cores": "2", "memory": "24 GiB", "system": "Linux", "python": "3.11"}
    titles = {"marloop": "Marloop", peer: "the peer"}
    started = "2026-11-24T12:00:00+00:00"
    return Results(started=started, plan=Plan(), machine=machine, titles=titles, samples=samples)


def goal(found: Results, text: str) -> Goal:
    (one,) = (goal for goal in goals(found) if text in goal.text)
    return one


def test_a_ratio_is_taken_within_each_round_and_then_its_median() -> None:
    ours, theirs = {0: load(100), 1: load(400), 2: load(90)}, {0: load(50), 1: load(100), 2: load(30)}
    assert ratio(ours, theirs, per_second) == Spread(3.0, 2.0, 4.0)


def test_rounds_that_one_server_missed_are_left_out_of_the_ratio() -> None:
    assert ratio({0: load(100), 1: load(400)}, {1: load(100)}, per_second) == Spread(4.0, 4.0, 4.0)
    assert ratio({0: load(100)}, {1: load(100)}, per_second) is None
    assert ratio({0: load(100)}, {0: load(0)}, per_second) is None


def test_a_spread_has_the_median_and_the_extremes() -> None:
    assert spread({0: load(1), 1: load(5), 2: load(2)}, per_second) == Spread(2, 1, 5)
    assert spread({}, per_second) is None


def test_a_goal_is_met_by_the_median_of_the_ratios() -> None:
    assert goal(results([310, 330, 200], [100, 100, 100]), "throughput against fastapi-tuned-2") == Goal(
        "flights, 64 clients, throughput against fastapi-tuned-2", "≥ 3 ×", "3.10 × (2.00–3.30)", True
    )
    assert goal(results([290], [100]), "throughput against fastapi-tuned-2").met is False


def test_a_goal_that_was_not_measured_is_neither_met_nor_missed() -> None:
    assert goal(results([1], [1]), "ray-serve").met is None


def test_errors_with_many_clients_are_counted() -> None:
    found = results([1], [1])
    found.samples.append(Sample(0, "marloop", "flights", 512, load(100, lost=2)))
    assert goal(found, "flights, 512 clients, errors") == Goal(
        "flights, 512 clients, errors", "none", "2 of 1,000", False
    )


def test_the_cost_of_checks_is_the_share_of_throughput_that_they_take() -> None:
    found = results([90], [1])
    found.samples.append(Sample(0, "marloop-bare", "flights", 64, load(100)))
    assert goal(found, "flights, validation and telemetry").measured == "10 % (10 % to 10 %)"


def test_growth_of_memory_counts_only_beyond_its_error_and_a_megabyte() -> None:
    found = results([1], [1])
    found.plan = Plan(soak=600)
    found.extremes = Extremes(1.0, 5.0, "try again: retry after 1 s", 0.1, 260.0, growth=0.5, growth_error=0.4)
    assert goal(found, "growth").met is True
    found.extremes.growth = 0.9
    assert goal(found, "growth").met is False
    found.extremes.growth, found.extremes.growth_error = 0.09, 0.001
    assert goal(found, "growth").met is True
    assert goal(found, "past the queue's capacity").met is True
    found.extremes.refusal_body = "no worker"
    assert goal(found, "past the queue's capacity").met is False


def test_the_direct_host_as_a_whole_has_goals_of_its_own() -> None:
    found = results([1], [1])
    assert goal(found, "memory of all processes").met is None
    found.direct = WholeHost(3, 1.8, 260.0)
    assert goal(found, "3 models: cold start").met is True
    assert goal(found, "3 models: memory").measured == "260 MB"
    assert goal(found, "3 models: memory").met is False


def test_the_tables_name_every_server_that_was_measured_and_every_one_that_is_missing() -> None:
    found = results([400], [100])
    found.titles["ray-serve"] = "Ray Serve"
    found.absent["ray-serve"] = "cannot be installed: no matching\ndistribution"
    text = report.markdown(found)
    assert "| the peer | 100 (100–100) | 4.00 × (4.00–4.00) |" in text
    assert "| Ray Serve | cannot be installed: no matching distribution |" in text
    assert "2026-11-24, a CPU, 2 cores" in text


def test_prose_around_the_tables_survives_and_old_tables_do_not(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    page.write_text(f"# Before\n\n{report.MARKS.begin}\nold figures\n{report.MARKS.end}\n\nafter\n")
    report.write_page(results([400], [100]), page)
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith(f"{report.MARKS.end}\n\nafter\n")
    assert "old figures" not in text
    assert "4.00 ×" in text


def test_a_page_without_markers_gets_the_tables_at_its_end_and_a_missing_page_is_made(tmp_path: Path) -> None:
    prose = tmp_path / "prose.md"
    prose.write_text("words\n")
    report.write_page(results([400], [100]), prose)
    assert prose.read_text().startswith(f"words\n\n{report.MARKS.begin}\n")
    report.write_page(results([400], [100]), tmp_path / "new.md")
    assert "4.00 ×" in (tmp_path / "new.md").read_text()


def test_a_page_with_one_marker_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{report.MARKS.begin}\nwords that must not be lost\n")
    with pytest.raises(ValueError, match="has lost its marks"):
        report.write_page(results([1], [1]), page)
    assert "words that must not be lost" in page.read_text()


def test_results_survive_as_json(tmp_path: Path) -> None:
    found = results([400], [100])
    assert msgspec.json.decode(msgspec.json.encode(found), type=Results) == found


def test_the_chart_is_a_picture(tmp_path: Path) -> None:
    report.draw_chart(results([400, 420], [100, 90]), tmp_path / "performance.png")
    assert (tmp_path / "performance.png").read_bytes().startswith(b"\x89PNG")
