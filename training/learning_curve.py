"""What pretraining is worth on little data: the same network, pretrained and from nothing, on ever more rows.

python -m training learning-curve sentiment --metric polarity
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from training import evaluate, export, fit
from training.recipe import Recipe

STARTS: dict[str, dict[str, Any]] = {"pretrained": {"pretrained": True}, "from scratch": {"pretrained": False}}
SIZES = (100, 500, 2_000)
STEPS = 190  # of every run, at least: three times through the most rows, sixty times through the fewest


def learning_curve(
    recipe: Recipe[Any],
    preset: str | None,
    sizes: Sequence[int],
    *,
    cache: Path,
    checkpoints: Path,
    steps: int = STEPS,
    step: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train on some rows and measure on all held-out rows, for each size and start.

    Args:
        recipe: whose hyperparameters have ``rows``; with ``pretrained`` among them both starts are compared.
        preset: the other hyperparameters; None for the default.
        sizes: numbers of training rows.
        cache: folder for data.
        checkpoints: folder for checkpoints of runs that are under way.
        steps: that every run takes at least, so that few rows are not also trained for less.
        step: is told what happens.

    Returns:
        ``model``, ``hyperparameters``, ``steps``, and ``points``: ``start``, ``rows``, ``epochs``, ``seconds`` and
        ``evaluation`` of each run.

    Raises:
        KeyError: no such preset.
        DataError: the data cannot be had.
        ValueError: the recipe's number of rows cannot be chosen.
    """
    hp = recipe.preset(preset)
    names = {field.name for field in fields(hp)}
    if "rows" not in names:
        raise ValueError(f"{recipe.name} has no hyperparameter `rows`, so that its training data cannot be thinned")
    starts = STARTS if "pretrained" in names else {"": {}}
    points = []
    for rows in sizes:
        epochs = max(hp.epochs, -(-steps // -(-rows // hp.batch_size)))
        for start, changes in starts.items():
            step(f"{rows:,} rows {start}, {epochs} epochs")
            run = replace(hp, rows=rows, epochs=epochs, **changes)
            points.append({"start": start, "rows": rows, "epochs": epochs} | _run(recipe, run, cache, checkpoints))
    return {"model": recipe.name, "hyperparameters": asdict(hp), "steps": steps, "points": points}


def _run(recipe: Recipe[Any], hp: Any, cache: Path, checkpoints: Path) -> dict[str, Any]:
    data = replace(recipe.load(hp, cache), validation=None)
    trained = fit.fit(recipe, "learning curve", hp, data, checkpoints)
    output = export.predict(export.serving_module(trained), data.test)
    return {"seconds": round(trained.seconds, 1), "evaluation": evaluate.held_out(recipe, data, output)}


def parts(point: Mapping[str, Any]) -> dict[str, Any]:
    """The slices of a run's evaluation by name, or the whole under an empty name."""
    found: dict[str, Any] = point["evaluation"].get("slices") or {"": point["evaluation"]}
    return found


def write(curve: Mapping[str, Any], metric: str, folder: Path) -> tuple[Path, Path]:
    """Write the curve as JSON and as a picture, a panel for each slice; returns both paths.

    Raises:
        ValueError: there is no such metric; lists those there are.
    """
    found = curve["points"][0]["evaluation"]["metrics"]
    if metric not in found:
        raise ValueError(f"there is no metric {metric!r}; there are {', '.join(found)}")
    text, picture = (folder / f"{curve['model']}{suffix}" for suffix in (".json", ".png"))
    text.write_bytes(msgspec.json.format(msgspec.json.encode(curve), indent=1) + b"\n")
    _draw(curve, metric, picture)
    return text, picture


def _draw(curve: Mapping[str, Any], metric: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = curve["points"]
    names = list(parts(points[0]))
    figure = Figure(figsize=(1.5 + 3.5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        for start in dict.fromkeys(point["start"] for point in points):
            line = [point for point in points if point["start"] == start]
            values = [parts(point)[name]["metrics"][metric] for point in line]
            axes.plot([point["rows"] for point in line], values, marker="o", label=start)
        for i, (baseline, metrics) in enumerate(parts(points[-1])[name]["baselines"].items()):
            axes.axhline(metrics[metric], color="grey", linestyle=("--", ":", "-.")[i % 3], label=baseline)
        axes.set(title=name, xscale="log", xlabel="training rows")
        axes.set_xticks(sorted({point["rows"] for point in points}), minor=False)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(metric)
    figure.axes[-1].legend(fontsize="small")
    figure.savefig(path, dpi=110, metadata={"Software": None})
