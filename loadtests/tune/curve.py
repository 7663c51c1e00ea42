"""The latency–throughput curve of candidates, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from loadtests.tune.candidates import Candidate
from loadtests.tune.tune import Point
from training.figures.picture import picture


def draw(points: Sequence[Point], winner: Candidate | None, p99_ms: float, title: str, path: Path) -> None:
    """Draw one line a candidate, from few clients to many, the winner thick.

    Args:
        points: of every candidate.
        winner: is drawn over the others.
        p99_ms: the objective, a line across.
        title: above the picture.
        path: of the PNG.
    """
    with picture(path, 9, 5.5, dpi=120) as figure:
        axes = figure.add_subplot()
        for candidate in sorted({point.candidate for point in points}):
            line = sorted((p for p in points if p.candidate == candidate), key=lambda point: point.clients)
            wins = candidate == winner
            style = {"linewidth": 3.0, "zorder": 3} if wins else {"linewidth": 1.0, "alpha": 0.7}
            label = f"{candidate}{' (best)' if wins else ''}"
            axes.plot([p.per_second for p in line], [p.p99 for p in line], marker="o", label=label, **style)  # type: ignore[arg-type]
        axes.axhline(p99_ms, color="black", linestyle="--", linewidth=1)
        axes.annotate(f"objective: {p99_ms:g} ms", (0.01, p99_ms), xycoords=("axes fraction", "data"), va="bottom")
        axes.set(xlabel="answers a second", ylabel="p99, ms", yscale="log", title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
