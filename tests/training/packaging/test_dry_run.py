"""Faults of a recipe are found before any fit, each with the way out."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from handlers.contract import Array, Task, TensorSpec
from tests.support.training.quadrants import Quadrants
from tests.training.conftest import Commands
from training.packaging.dry_run import Fault, dry_run
from training.recipe import Data, Hyperparameters, Split
from training.recipes.linear import Linear

CHECKS = [
    "the data, as `load` returns them",
    "the contract that clients see",
    "the network: `module` and its `forward`",
    "the loss, and whether weights learn from it",
    "the baselines",
    "the archive: graphs, parity, example, loading",
]


class Columns(nn.Module):
    """A regression as the README teaches: any number of columns, a number a row."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, *columns: Tensor) -> Tensor:
        """FP32 (n,) each -> FP32 (n,)."""
        return self.linear(torch.stack(columns, 1))[:, 0]  # type: ignore[no-any-return]


class Sum(Quadrants):
    """The sum of two columns."""

    name = "sum"
    task: ClassVar[Task] = "regression"
    outputs: ClassVar[tuple[TensorSpec, ...]] = (TensorSpec("sum", "FP32"),)
    labels: ClassVar[tuple[str, ...]] = ()

    def load(self, hp: Hyperparameters, cache: Path) -> Data:
        """Points of the quadrants."""
        data = super().load(hp, cache)

        def summed(split: Split) -> Split:
            return replace(split, target=split.inputs["east"] + split.inputs["north"])

        return replace(data, train=summed(data.train), test=summed(data.test), validation=None)

    def module(self, hp: Hyperparameters, data: Data) -> nn.Module:
        """Takes any number of columns."""
        return Columns()

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Always zero."""
        return {"zero": np.zeros(len(data.test), np.float32)}


class Changed(Linear):
    """Linear, whose data or network are changed."""

    def __init__(self, data: Callable[[Data], Any] = lambda data: data, forward: Any = None) -> None:
        self._data, self._forward = data, forward

    def load(self, hp: Any, cache: Path) -> Data:
        """Changed data."""
        return self._data(super().load(hp, cache))  # type: ignore[no-any-return]

    def module(self, hp: Any, data: Data) -> nn.Module:
        """A network with the changed forward."""
        module = super().module(hp, data)
        if self._forward:
            module.forward = lambda x: self._forward(module.linear, x)
        return module


def train(**changes: Any) -> Callable[[Data], Data]:
    return lambda data: replace(data, train=replace(data.train, **changes))


FAULTS = {
    "nothing loaded": (
        Changed(lambda data: None),
        "the data, as `load` returns them: `load` returned NoneType; it",
    ),
    "no rows": (Changed(train(inputs={"x": np.empty(0, np.float32)}, target=np.empty(0, np.float32))), "has no rows"),
    "another name": (
        Changed(train(inputs={"z": np.ones(5, np.float32)})),
        "train has the inputs z; the contract's are",
    ),
    "doubles": (
        Changed(train(inputs={"x": np.ones(5)})),
        "input x: its values are float64; FP32 must be float32: `",
    ),
    "a matrix": (
        Changed(train(inputs={"x": np.ones((5, 1), np.float32)})),
        "the shape (5, 1); the contract says (5,)",
    ),
    "NaN": (Changed(train(inputs={"x": np.full(5, np.nan, np.float32)})), "input x: it has NaN or infinite values"),
    "out of range": (Changed(train(inputs={"x": np.full(5, 1e7, np.float32)})), "from 1e+07 to 1e+07, outside the con"),
    "target of doubles": (
        Changed(train(target=np.ones(5))),
        "target: its values are float64; a regression's must",
    ),
    "target of two columns": (Changed(train(target=np.ones((5, 2), np.float32))), "the shape (5, 2); it must be (5,)"),
    "a column out": (
        Changed(forward=lambda linear, x: linear(x[:, None])),
        "`forward`: `forward` returned a tensor (1, 1) for 1 rows; it must be (1,): `[:, 0]`",
    ),
    "no tensor out": (Changed(forward=lambda linear, x: 1.0), "`forward` returned a float for 1 rows; it must be (1,)"),
    "NaN out": (Changed(forward=lambda linear, x: x / 0 * 0), "`forward` returned NaN or infinite values"),
    "a shape inside": (Changed(forward=lambda linear, x: linear(x)), "the network: `module` and its `forward`: "),
    "nothing learned": (
        Changed(forward=lambda linear, x: 2 * x),
        "the loss, and whether weights learn from it: no weight has a gradient",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_the_first_fault_is_named_with_the_way_out(tmp_path: Path, what: str) -> None:
    recipe, said = FAULTS[what]
    with pytest.raises(Fault) as fault:
        dry_run(recipe, tmp_path, lambda text: None)
    assert said in str(fault.value)


class Lazy(Sum):
    """A regression whose baselines are of a wrong shape."""

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """One value for all rows."""
        return {"zero": np.zeros(1, np.float32)}


def test_a_baseline_of_a_wrong_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"the baselines: 'zero' has the shape \(1,\); for 64 rows it must be \(64,\)"):
        dry_run(Lazy(), tmp_path, lambda text: None)


class Branches(Columns):
    """A module that cannot be exported: it looks at its values."""

    def forward(self, *columns: Tensor) -> Tensor:
        """FP32 (n,) each -> FP32 (n,)."""
        return super().forward(*columns) * (1 if columns[0].sum() > 0 else 2)


def test_what_cannot_be_exported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sum, "module", lambda self, hp, data: Branches())
    with pytest.raises(Fault, match="the archive: graphs, parity, example, loading: sum cannot be exported: "):
        dry_run(Sum(), tmp_path, lambda text: None)


@pytest.mark.parametrize("recipe", [Quadrants(), Sum()], ids=lambda recipe: recipe.name)
def test_a_good_recipe_passes_every_check(tmp_path: Path, recipe: Quadrants) -> None:
    steps: list[str] = []
    dry_run(recipe, tmp_path, steps.append)
    assert steps == [f"checking {what}" for what in CHECKS]


def test_the_command_prints_what_it_checks_and_leaves_nothing(training: Commands) -> None:
    code, output = training("check", "linear")
    assert code == 0, output
    assert output == "".join(f"linear: checking {what}\n" for what in CHECKS) + (
        "linear: no fault found; `make train MODEL=linear` fits it\n"
    )
    assert not training.registry.store.exists()
    assert training("check", "chat")[0] == 1


class Lacking(Changed):
    """A line whose baseline needs no values."""

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Always zero."""
        return {"zero": np.zeros(len(data.test), np.float32)}


def nullable(**changes: Any) -> Callable[[Data], Data]:
    """Rows of which some lack the value."""

    def change(data: Data) -> Data:
        inputs = tuple(msgspec.structs.replace(spec, nullable=True, **changes) for spec in data.inputs)

        def some(split: Split) -> Split:
            x = split.inputs["x"].copy()
            x[::2] = np.nan
            return replace(split, inputs={"x": x})

        return replace(data, train=some(data.train), test=some(data.test), inputs=inputs)

    return change


def test_a_network_may_take_nan_and_defaults_must_be_filled_in(tmp_path: Path) -> None:
    def forward(linear: nn.Module, x: Tensor) -> Tensor:
        return linear(torch.nan_to_num(x, 1.0)[:, None])[:, 0]  # type: ignore[no-any-return]

    dry_run(Lacking(nullable(), forward), tmp_path, lambda text: None)
    with pytest.raises(Fault, match="input x: it has missing values: return `split.filled\\(inputs\\)`"):
        dry_run(Changed(nullable(default=3.0)), tmp_path, lambda text: None)

    texts = (TensorSpec("x", "BYTES", nullable=True, default=""),)
    with pytest.raises(Fault, match="input x: a recipe's text cannot be nullable"):
        dry_run(Changed(lambda data: replace(data, inputs=texts)), tmp_path, lambda text: None)

    def filled(data: Data) -> Data:
        data = nullable(default=3.0)(data)
        return replace(data, train=data.train.filled(data.inputs), test=data.test.filled(data.inputs))

    dry_run(Changed(filled), tmp_path, lambda text: None)
