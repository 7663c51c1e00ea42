"""The bar chart of a run."""

from pathlib import Path

from loadtests.bench.language import results as figures
from loadtests.bench.language.results import Results
from loadtests.bench.tensors.chart import OURS, THEIRS
from loadtests.bench.tensors.results import spread

PANELS = (
    ("1 stream, decoding", figures.ALONE, "tokens/s", 1),
    ("8 streams, end to end", figures.END_TO_END, "tokens/s", 1),
    ("first token, idle", figures.FIRST, "ms", 1000),
)


def draw(results: Results, path: Path) -> None:
    """A panel a figure, a bar a contender, smallest and largest round as whiskers; a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(13, 2.8), layout="constrained", sharey=True)
    names = list(results.titles)[::-1]  # from below
    for axis, (title, measured, unit, scale) in zip(axes, PANELS, strict=True):
        for name in names:
            found = spread(results.values(name, measured), float)
            value, low, high = (scale * part for part in found or (0, 0, 0))
            color = OURS if name == figures.OURS else THEIRS
            drawn = axis.barh(name, value, color=color, xerr=[[value - low], [high - value]])
            axis.bar_label(drawn, [f"{value:,.0f}" if found else "–"], padding=6)
        axis.set_title(title)
        axis.set_xlabel(unit)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
