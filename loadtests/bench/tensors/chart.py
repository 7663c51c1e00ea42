"""The bar chart of a run."""

from pathlib import Path

from loadtests.bench.tensors.contenders import WORKLOADS
from loadtests.bench.tensors.results import Results, per_second, spread

OURS, THEIRS = "#1f77b4", "#b0b7c3"
SHOWN = ("flights", "fashion")


def draw(results: Results, path: Path) -> None:
    """Requests a second of each server, one panel a workload, smallest and largest round as whiskers; a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(SHOWN), figsize=(13, 4.8), layout="constrained")
    for axis, workload in zip(axes, SHOWN, strict=True):
        bars = []
        for name, title in results.titles.items():
            found = spread(results.loads(name, workload, results.plan.clients), per_second)
            if found and name != "marloop-bare":
                bars.append((found, title, OURS if name.startswith("marloop") else THEIRS))
        bars.sort(key=lambda bar: bar[0].median)
        values = [found.median for found, _, _ in bars]
        whiskers = [[f.median - f.low for f, _, _ in bars], [f.high - f.median for f, _, _ in bars]]
        drawn = axis.barh([title for _, title, _ in bars], values, color=[color for _, _, color in bars], xerr=whiskers)
        axis.bar_label(drawn, [f"{value:,.0f}" for value in values], padding=6)
        # The title begins where the names do: centred over the bars it would be cut at the picture's edge.
        axis.set_title(f"{WORKLOADS[workload][0]}, {results.plan.clients} clients", loc="right", fontsize="medium")
        axis.set_xlabel("requests/s")
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
