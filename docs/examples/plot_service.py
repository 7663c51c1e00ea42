"""Draw traffic and latency of the last minutes from a Prometheus that watches the service: the README's picture.

python docs/examples/plot_service.py --prometheus http://127.0.0.1:9090 --minutes 10 --out docs/examples/latency.png
"""

import time
from pathlib import Path
from typing import Annotated

import httpx
import typer
from matplotlib.axes import Axes

from training.figures.picture import picture

WINDOW = "15s"
COLORS = {"2xx": "#4477aa", "4xx": "#ccbb44", "5xx": "#ee6677", "p50": "#66ccee", "p95": "#4477aa", "p99": "#222255"}
Points = tuple[list[float], list[float]]  # seconds since the epoch, values


class Source:
    """Range queries to a Prometheus (HTTP API, "Range queries").

    Args:
        url: of the Prometheus.
        start: seconds since the epoch.
        end: seconds since the epoch.
        step: seconds between two values.
    """

    def __init__(self, url: str, start: float, end: float, step: float) -> None:
        self.url, self.start, self.end, self.step = url, start, end, step

    def ask(self, expression: str) -> Points:
        """The points of an expression that gives one series; none where it gives nothing.

        Raises:
            httpx.HTTPError: Prometheus cannot be reached, or refuses the expression.
        """
        asked: dict[str, str | float] = {"query": expression, "start": self.start, "end": self.end, "step": self.step}
        response = httpx.get(f"{self.url}/api/v1/query_range", params=asked, timeout=30, trust_env=False)
        response.raise_for_status()
        result = response.json()["data"]["result"]
        values = result[0]["values"] if result else []
        return [float(at) for at, _ in values], [float(value) for _, value in values]


def traffic(axes: Axes, source: Source, model: str) -> None:
    """Requests a second by class of status, one above the other; without a model, 5xx with those no worker saw."""
    found = {name: source.ask(answers(name[0], model)) for name in ("2xx", "4xx", "5xx")}
    seconds = [at - source.start for at in found["2xx"][0]]
    colors = [COLORS[name] for name in found]
    labels = ["2xx", "4xx: bad input, refused", "5xx"]  # a load test sends some on purpose
    axes.stackplot(seconds, [values for _, values in found.values()], labels=labels, colors=colors, alpha=0.8)
    axes.set_ylabel("requests a second")


def answers(digit: str, model: str) -> str:
    """The rate of answers whose status begins with a digit."""
    if digit == "5" and not model:
        return f"sum(rate(Requests5XX[{WINDOW}])) or vector(0)"
    chosen = selector(model, f'code=~"{digit}.."')
    return f"sum(rate(model_requests_total{chosen}[{WINDOW}])) or vector(0)"


def selector(model: str, *others: str) -> str:
    """The label matchers for a model, or for all."""
    return "{" + ",".join([*([f'model="{model}"'] if model else []), *others]) + "}"


def latency(axes: Axes, source: Source, model: str) -> None:
    """Percentiles in the worker, and what the probe felt end to end."""
    chosen = selector(model)
    worker = f"sum by (le) (rate(model_request_duration_seconds_bucket{chosen}[{WINDOW}]))"
    probe = f"sum by (le) (rate(probe_duration_seconds_bucket{chosen}[1m]))"
    for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        at, values = source.ask(f"1000 * histogram_quantile({quantile}, {worker})")
        axes.plot([x - source.start for x in at], values, color=COLORS[name], label=f"worker {name}")
    at, values = source.ask(f"1000 * histogram_quantile(0.95, {probe})")
    axes.plot(
        [x - source.start for x in at], values, color=COLORS["5xx"], linestyle="--", label="probe p95, end to end"
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("milliseconds")
    axes.set_xlabel("seconds")


def main(
    prometheus: Annotated[str, typer.Option(help="URL of a Prometheus that scrapes the service.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("docs/examples/latency.png"),
    minutes: Annotated[float, typer.Option(min=0.5, help="How far to look back.")] = 10,
    model: Annotated[str, typer.Option(help="One model; default: all together.")] = "",
) -> None:
    """Draw traffic and latency of the last minutes."""
    end = time.time()
    source = Source(prometheus.rstrip("/"), end - 60 * minutes, end, max(1.0, 60 * minutes / 600))
    with picture(out, 10, 6, dpi=120) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True)
        figure.suptitle(f"{model or 'all models'}, measured by Prometheus")
        traffic(upper, source, model)
        latency(lower, source, model)
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(x=0)
            axes.grid(axis="y", alpha=0.3)
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, ncols=4)
    typer.echo(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)
