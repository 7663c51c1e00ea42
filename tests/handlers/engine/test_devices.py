"""The device of an engine: refused in a sentence where it is missing. None of these machines has a GPU."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
import torch

from handlers.engine import load_engine, open_session
from handlers.engine.devices import check_device, onnx_providers, torch_device
from tests.handlers.engine.test_engines import PAIR, Pair, export


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(Pair(), PAIR, tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "", 0, None])
def test_what_is_no_device_is_refused(device: Any) -> None:
    with pytest.raises(ValueError, match=f"handler.device is {device!r} in model-config.yaml; it must be cpu, cuda or"):
        check_device(device)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_is_taken_as_it_is_named(device: str) -> None:
    assert check_device(device) == device


@pytest.mark.parametrize(
    ("engine", "fault"),
    [
        ("onnxruntime", "'cuda' .* the ONNX Runtime here has .*CPUExecutionProvider.*: install onnxruntime-gpu"),
        ("torch", "'cuda' .* finds no CUDA device here: install a build with CUDA and its driver, or set cpu"),
    ],
)
def test_a_machine_without_it_refuses_the_model(
    pair: Path, engine: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=fault):
        load_engine(engine, pair, PAIR, 1, "cuda")


def test_onnx_runtime_gets_the_provider_with_its_number_and_the_cpu_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    cuda, cpu = onnx_providers("cuda:3")
    assert (cuda, cpu) == (("CUDAExecutionProvider", {"device_id": 3, "use_tf32": 0}), "CPUExecutionProvider")
    assert onnx_providers("cuda")[0][1]["device_id"] == 0
    assert onnx_providers("cpu") == ["CPUExecutionProvider"]


def test_a_session_that_fell_back_to_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(providers: list[str]) -> Any:
        return lambda model, options, providers: SimpleNamespace(get_providers=lambda: own)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    own = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "InferenceSession", session(own))
    assert open_session(b"", 1, device="cuda").get_providers() == own
    own = ["CPUExecutionProvider"]
    with pytest.raises(ValueError, match="ONNX Runtime could not start there: its log says why"):
        open_session(b"", 1, device="cuda")


def test_torch_gets_one_of_the_devices_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert torch_device("cuda:1") == torch.device("cuda:1")
    assert not torch.backends.cudnn.allow_tf32
    with pytest.raises(ValueError, match="finds 2 CUDA devices here"):
        torch_device("cuda:2")
