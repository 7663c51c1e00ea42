"""The command as a user calls it, and how its figures are shown."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from tests.support.training.trainings import Trainings
from training.__main__ import app
from training.improve.formats.result import Export
from training.packaging.registration import Result

RESULT = {
    "command": "export",
    "model": "wine",
    "version": "1.3",
    "seconds": 8.2,
    "machine": "an abacus",
    "compared_rows": 1500,
    "rows": [
        {
            "format": "tflite",
            "file": "wine-1.3.tflite",
            "bytes": 254_268,
            "runtime": "ai-edge-litert 2.3.0",
            "batch": "1, fixed",
            "max_abs_difference": 1.23e-7,
            "label_agreement": 0.9995,
            "p50_ms": 0.0123,
            "p50_64_ms": 0.789,
        }
    ],
    "failed": {"openvino": "it is not installed"},
}


@pytest.fixture
def export(trained: Trainings, linear: Result, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        places = {"MARLOOP_MODEL_STORE": trained.registry.store, "MARLOOP_LITERT_PYTHON": tmp_path / "nowhere"}
        command = ["export", *arguments, "--output", str(tmp_path / "exports")]
        environ = {name: str(place) for name, place in places.items()}
        result = CliRunner().invoke(app, command, env=environ, catch_exceptions=False)
        return result.exit_code, result.output

    return run


def test_the_files_are_written_and_the_figures_are_printed_and_kept(
    export: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, output = export("linear", "--format", "onnx", "--format", "torch", "--report", str(tmp_path / "practices"))
    assert code == 0, output
    assert "linear: exporting to onnx, and comparing 1,001 rows\n" in output
    assert f"written: linear-1.0.onnx, linear-1.0.pt2 into {tmp_path / 'exports'}\n" in output
    result = msgspec.json.decode((tmp_path / "practices" / "export-linear.json").read_bytes())
    assert [row["format"] for row in result["rows"]] == ["onnx", "torch"]
    assert "│ onnx " in output


def test_a_format_that_fails_is_an_error_after_the_others_are_written(
    export: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, output = export("linear", "--format", "tflite", "--format", "onnx")
    assert code == 1
    assert "error: the format tflite " in output
    assert (tmp_path / "exports" / "linear-1.0.onnx").is_file()


def test_an_unknown_format_is_an_error_that_lists_those_there_are(export: Callable[..., tuple[int, str]]) -> None:
    expected = "error: there is no format 'caffe'; there are onnx, torch, tflite, openvino, all\n"
    assert export("linear", "--format", "caffe") == (1, expected)


def test_the_figures_stand_in_the_documentation() -> None:
    lines = Export.from_document(RESULT).markdown().splitlines()
    assert lines[0] == "wine 1.3 against its program on 1,500 rows: largest difference, median times on one thread."
    assert "| difference | same label |" in lines[2]
    assert lines[4] == ("| tflite | 254.3 | ai-edge-litert 2.3.0 | 1, fixed | 1.2e-07 | 99.95% | 0.012 | 0.789 |")
    assert lines[-1] == "- openvino: it is not installed"
