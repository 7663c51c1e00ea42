"""Matplotlib's figures as PNG files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def beside(text: Path) -> Path:
    """Return the path of the picture that belongs to a page or to a result."""
    return text.parent / "pictures" / f"{text.stem}.png"


@contextmanager
def picture(path: Path, width: float, height: float, dpi: int = 110) -> Iterator["Figure"]:
    """Yield a figure, sizes in inches, and write it when the block ends; the same drawing gives the same bytes."""
    from matplotlib.figure import Figure  # takes a second, which commands without pictures need not

    figure = Figure(figsize=(width, height), layout="constrained")
    yield figure
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, metadata={"Software": None})


def plotted(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Return values for Matplotlib, None as NaN, which it does not draw."""
    return np.array(values, np.float64)
