"""Each format on small programs that are made here."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from handlers.contract import Array, ModelContract, TensorSpec
from tests.support.handlers.models import contract
from tests.support.training.exporters import FORMATS, PYTHON, source
from training.improve.formats.exporting import formats
from training.improve.formats.format import ExportError
from training.improve.formats.graphs import Onnx
from training.improve.formats.litert import TensorFlowLite

NUMBER = contract(TensorSpec("x", "FP32"), name="number")
CODED = contract(
    TensorSpec("amount", "FP32"), TensorSpec("colour", "BYTES", categories=("red", "green", "blue")), name="coded"
)
TEXT = contract(TensorSpec("text", "BYTES"), name="text")


class Bessel(nn.Module):
    """Holds an operator that only PyTorch has."""

    def forward(self, x: Tensor) -> Tensor:
        """x (n,) -> (n,)."""
        return torch.special.bessel_j0(x) + 1  # type: ignore[no-any-return]


class Coded(nn.Module):
    """Linear in a number and in the one-hot code of a category."""

    def forward(self, amount: Tensor, colour: Tensor) -> Tensor:
        """FP32 (n,), INT64 (n,) -> FP32 (n,)."""
        code = nn.functional.one_hot(colour, 3).float()  # (n, 3)
        return amount / 3 + code @ torch.tensor([1.0, 10.0, 100.0])


class Words(nn.Module):
    """The sum of a text's tokens, whatever fills it up."""

    def forward(self, text: Tensor) -> Tensor:
        """INT64 (n, length), filled up with 0 -> FP32 (n,)."""
        return (text.float() * 0.5).sum(1)


def answers(name: str, module: nn.Module, model: ModelContract, folder: Path, **rows: Array) -> Array:
    """What the file of a format answers; it is written for rows as long as the first call's."""
    chosen = formats(PYTHON)[name]
    made = source(module, model, {key: value[:1] for key, value in rows.items()}, folder)
    chosen.write_files(made, folder)
    assert all((folder / file).stat().st_size for file in chosen.files)
    return chosen.open(folder, model).run(rows)["y"]


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """The torch engine sets the number of threads of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_and_categories_are_taken(name: str, tmp_path: Path) -> None:
    amount, colour = np.array([3, 6, 9], np.float32), np.array([2, 0, 1])
    found = answers(name, Coded(), CODED, tmp_path, amount=amount, colour=colour)
    np.testing.assert_allclose(found, [101, 3, 13], rtol=1e-6)


@pytest.mark.parametrize("name", [param for param in FORMATS if param.values[0] != "torch"])
def test_an_unsupported_operator_is_named(name: str, tmp_path: Path) -> None:
    made = source(Bessel(), NUMBER, {"x": np.zeros(1, np.float32)}, tmp_path)
    expected = f"number cannot be exported to {name}: the operator [a-z.]+_?bessel_j0.default has no counterpart"
    with pytest.raises(ExportError, match=expected):
        formats(PYTHON)[name].write_files(made, tmp_path)


@pytest.mark.parametrize("name", [param for param in FORMATS if param.values[0] == "tflite"])
def test_a_text_shorter_than_the_fixed_length_is_filled_up(name: str, tmp_path: Path) -> None:
    answers(name, Words(), TEXT, tmp_path, text=np.array([[1, 2, 3, 4]]))
    engine = formats(PYTHON)[name].open(tmp_path, TEXT)
    assert engine.run({"text": np.array([[5, 6], [7, 0]])})["y"].tolist() == [5.5, 3.5]


def test_without_the_environment_that_writes_tflite_the_error_says_how_to_make_it(tmp_path: Path) -> None:
    made = source(Words(), TEXT, {"text": np.zeros((1, 2), np.int64)}, tmp_path)
    with pytest.raises(ExportError, match=r"litert-torch, in an environment.*nowhere/python is not.*`make litert`"):
        TensorFlowLite(tmp_path / "nowhere" / "python").write_files(made, tmp_path)


def test_a_runtime_that_is_not_installed_is_an_error_that_says_how_to_install_it() -> None:
    class Absent(Onnx):
        name = "absent"
        runtime = "no-such-runtime"
        extra = "absent"

    expected = r"absent runs on no-such-runtime, which is not installed: run `pip install -c .* -e '\.\[absent\]'`"
    with pytest.raises(ExportError, match=expected):
        Absent().require_runtime()


@pytest.mark.parametrize("name", [param for param in FORMATS if param.values[0] == "openvino"])
def test_openvino_is_kept_from_reporting_to_its_makers(name: str) -> None:
    """In a process of its own, where nothing has imported it yet."""
    code = """
from training.improve.formats import openvino_ir
openvino_ir._openvino()
import openvino.tools.ovc.telemetry_utils as reporting
print(reporting.tm.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub"], done.stderr
