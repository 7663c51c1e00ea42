"""The course of a simulated run, drawn."""

from pathlib import Path

from loadtests.capacity.simulation.results import Run
from loadtests.capacity.simulation.scenario import Scenario
from training.figures.picture import picture, plotted

HOUR = 3600.0  # s


def draw_course(run: Run, scenario: Scenario, path: Path) -> None:
    """Draw requests, replicas and p99 over time, each in a panel, with losses of nodes and deploys across."""
    hours = [point.time / HOUR for point in run.course]
    panels = {
        "requests/s": [point.rate for point in run.course],
        "replicas in service": [float(point.replicas) for point in run.course],
        "p99, ms": plotted([None if point.p99 is None else 1000 * point.p99 for point in run.course]),
    }
    marks = [(time, "node lost", "#ee6677") for time in scenario.cluster.losses]
    marks += [(time, "deploy", "#228833") for time in scenario.cluster.deploys]
    with picture(path, 9, 6.5) as figure:
        rows = figure.subplots(len(panels), 1, sharex=True)
        for axes, (title, values) in zip(rows, panels.items(), strict=True):
            axes.plot(hours, values, color="#4477aa", linewidth=1.0)
            axes.set(ylabel=title)
            axes.grid(alpha=0.3)
            for time, label, color in marks:
                axes.axvline(time / HOUR, color=color, linestyle="--", linewidth=1, label=label)
        rows[-1].axhline(1000 * scenario.bound, color="black", linestyle=":", linewidth=1, label="bound")
        rows[-1].set(yscale="log", xlabel="hours")
        rows[-1].legend(fontsize="small", loc="upper left")
