"""Models that no converter to ONNX knows, as other people's programs leave them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from sklearn.compose import ColumnTransformer
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor, nn

from training.packaging.export import quiet

ROW = {"age": 30.0, "yearly income": 55.5, "job": "pilot"}


class Halved(nn.Module):
    """Its loop depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        """x (n, 4) -> (n,)."""
        steps = 0
        while bool(x.abs().max() > 1.0):
            x = x / 2
            steps += 1
        total: Tensor = torch.special.bessel_j0(x).sum(1) + steps
        return total


class Waves(nn.Module):
    """Three logits of functions that ONNX lacks."""

    def forward(self, x: Tensor) -> Tensor:
        """x (n, 4) -> (n, 3)."""
        return torch.stack([torch.special.bessel_j0(x).sum(1), torch.special.bessel_j1(x).sum(1), x.sum(1)], 1)


def save_script(path: Path) -> Path:
    """Write ``Halved`` as TorchScript."""
    with quiet():  # it is deprecated
        torch.jit.script(Halved().eval()).save(str(path))  # type: ignore[no-untyped-call]
    return path


def save_program(path: Path, batch: bool = True) -> Path:
    """Write ``Waves`` as a program of ``torch.export``."""
    shapes: Any = ({0: torch.export.Dim("batch")},) if batch else None
    torch.export.save(torch.export.export(Waves().eval(), (torch.ones(2, 4),), dynamic_shapes=shapes), path)
    return path


def frame(rows: int = 120) -> pandas.DataFrame:
    """Rows with numbers and strings."""
    rng = np.random.default_rng(0)
    return pandas.DataFrame(
        {
            "age": rng.integers(18, 80, rows).astype(float),
            "yearly income": rng.normal(50, 10, rows).round(2),
            "job": rng.choice(["clerk", "nurse", "pilot"], rows),
        }
    )


def truth(rows: pandas.DataFrame) -> Any:
    """The number that ``kernel_ridge`` learned."""
    return rows["age"] / 10 + rows["yearly income"] + 5 * (rows["job"] == "pilot")


def kernel_ridge() -> Pipeline:
    """A pipeline whose last part has no converter."""
    columns = [("numbers", StandardScaler(), ["age", "yearly income"]), ("words", OneHotEncoder(), ["job"])]
    rows = frame()
    return make_pipeline(ColumnTransformer(columns), KernelRidge(alpha=0.1)).fit(rows, truth(rows))
