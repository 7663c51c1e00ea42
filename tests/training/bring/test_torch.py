"""A model of PyTorch becomes an archive that answers as its module does."""

import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from serving.registry import Registry
from tests.training.bring.test_onnx import Imported
from training.bring import sources
from training.bring.draft import ImportOptions, draft
from training.bring.graph import BringError
from training.bring.importing import bring
from training.bring.sources import Reading

ROW = [0.5, -1.0, 2.0]


class Net(nn.Module):
    """Logits of two classes."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.layers(values)  # type: ignore[no-any-return]


class Pair(nn.Module):
    """Several arguments and outputs."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return left + right, left.sum(1)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net(5).eval()


def opened(path: Path, folder: Path, reading: Reading, **options: Any) -> Imported:
    drafted = draft(sources.read(path, reading), ImportOptions(name="net", example=reading.example, **options))
    return Imported(bring(drafted, Registry(folder / "store")), folder / "unpacked")


def example(folder: Path, value: Any = ROW) -> Path:
    path = folder / "example.json"
    path.write_bytes(msgspec.json.encode(value))
    return path


def expected(net: Net) -> list[float]:
    with torch.inference_mode():
        return torch.softmax(net(torch.tensor([ROW])), 1)[0].tolist()


def check(model: Imported, net: Net, kind: str) -> None:
    ((status, answer),) = model.post({"inputs": ROW}, x_top_k="2")
    shares = {each["label"]: each["probability"] for each in answer["prediction"]["top_k"]}
    assert status == 200
    assert [shares["no"], shares["yes"]] == pytest.approx(expected(net), abs=1e-6)
    assert model.contract.lineage.imported is not None
    assert model.contract.lineage.imported.kind == kind
    assert model.contract.max_rows != 1
    ((status, answer),) = model.post({"instances": [ROW, [0, 0, 0], ROW]})
    assert answer["predictions"][0] == answer["predictions"][2]


def test_a_program_of_torch_export(net: Net, tmp_path: Path) -> None:
    program = torch.export.export(net, (torch.rand(2, 3),), dynamic_shapes=({0: Dim("rows")},))
    torch.export.save(program, tmp_path / "net.pt2")
    check(opened(tmp_path / "net.pt2", tmp_path, Reading(example(tmp_path)), labels=("no", "yes")), net, "torch.export")


@pytest.mark.parametrize("nested", [False, True], ids=["weights", "a checkpoint"])
def test_weights_with_their_module(net: Net, tmp_path: Path, nested: bool) -> None:
    weights = {"state_dict": net.state_dict()} if nested else net.state_dict()
    torch.save(weights, tmp_path / "net.pth")
    name = f"{__name__}:Net"
    reading = Reading(example(tmp_path), None, name, {"width": 5})
    check(opened(tmp_path / "net.pth", tmp_path, reading, labels=("no", "yes")), net, f"{name} with its weights")


def test_torchscript_and_a_word_that_it_is_deprecated(net: Net, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script: Any = torch.jit.script(net)
    script.save(tmp_path / "net.pt")
    brought = sources.read(tmp_path / "net.pt", Reading(example(tmp_path)))
    assert "deprecated" in brought.notes[0]
    check(opened(tmp_path / "net.pt", tmp_path, Reading(example(tmp_path)), labels=("no", "yes")), net, "TorchScript")


def test_several_arguments_and_outputs(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "pair.pt")
    reading = Reading(example(tmp_path, {"left": [1.0, 2.0], "right": [3.0, 4.0]}), None, f"{__name__}:Pair")
    model = opened(tmp_path / "pair.pt", tmp_path, reading)
    ((status, answer),) = model.post({"left": [1, 2], "right": [1, 1]})
    assert (status, list(answer["prediction"].values())) == (200, [[2, 3], 3])


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("this must not run",))


def test_pickles_do_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weights": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(BringError, match="holds no weights alone"):
        sources.read(tmp_path / "evil.pt", Reading(example(tmp_path), None, f"{__name__}:Net"))
    program = torch.export.export(Net(), (torch.rand(2, 3),))
    torch.export.save(program, tmp_path / "plain.pt2")
    from serving import archive

    content = (tmp_path / "plain.pt2").read_bytes()
    (inputs,) = (name for name in archive.names(content) if "/sample_inputs/" in name)
    (tmp_path / "evil.pt2").write_bytes(
        archive.rewritten(content, {inputs: archive.read_file(tmp_path / "evil.pt", "evil/data.pkl")})
    )
    with pytest.raises(BringError, match="is pickled, and would run its code when it is read: --trust allows that"):
        sources.read(tmp_path / "evil.pt2")
    assert "this must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "arguments", "fault"),
    [
        ("no_such_module:Net", {}, "cannot be made: ModuleNotFoundError"),
        (f"{__name__}:Missing", {}, "cannot be made: AttributeError"),
        (f"{__name__}:Net", {"depth": 3}, "cannot be made: TypeError"),
        (f"{__name__}:Evil", {}, "no torch.nn.Module"),
        (f"{__name__}:Net", {"width": 7}, "does not fit .*size mismatch"),
    ],
)
def test_a_module_that_does_not_fit_gets_a_sentence(
    net: Net, tmp_path: Path, module: str, arguments: dict[str, Any], fault: str
) -> None:
    torch.save(net.state_dict(), tmp_path / "net.pt")
    with pytest.raises(BringError, match=fault):
        sources.read(tmp_path / "net.pt", Reading(example(tmp_path), None, module, arguments))


def test_what_is_missing_is_named(net: Net, tmp_path: Path) -> None:
    torch.save(net.state_dict(), tmp_path / "net.pt")
    with pytest.raises(BringError, match="needs --example, a row with values"):
        sources.read(tmp_path / "net.pt", Reading(None, None, f"{__name__}:Net", {"width": 5}))
    with pytest.raises(BringError, match="weights alone need --module"):
        sources.read(tmp_path / "net.pt", Reading(example(tmp_path)))
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(BringError, match="files that end with .h5 cannot be imported; an .onnx file"):
        sources.read(tmp_path / "model.h5")
    with pytest.raises(BringError, match="is not there"):
        sources.read(tmp_path / "absent.onnx")
    np.save(tmp_path / "row.npy", np.array([ROW], np.float32))
    assert sources.read(tmp_path / "net.pt", Reading(tmp_path / "row.npy", None, f"{__name__}:Net", {"width": 5})).opset
