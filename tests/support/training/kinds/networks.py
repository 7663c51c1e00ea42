"""Graphs of ONNX, and networks of PyTorch in each of its files."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from tests.support.training import graphs
from tests.support.training.kinds import unconverted
from tests.support.training.kinds.made import Made, example
from tests.support.training.kinds.unconverted import Halved, Waves
from tests.training.bring.test_torch import Net
from training.packaging.export import quiet

LABELS = ("no", "yes")
ROWS = [[0.5, -1.0, 2.0], [1.0, 0.0, 0.25]]
ODD = [[0.5, 3.0, 1.0, 0.25], [9.0, 1.0, 2.0, 0.5]]


def run(file: Path, **tensors: Any) -> Any:
    """The first output of an ONNX file by ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, tensors)[0]


def strings(folder: Path) -> Made:
    """An ONNX file of a text, which may be missing, and a number."""
    words = ["red", *(f"colour {i}" for i in range(300))]
    (folder / "rows.csv").write_text("color,size\n" + "".join(f"{word},1\n" for word in words) + ",2\n" * 9)
    file = graphs.save(graphs.TEXTS, folder / "model.onnx")
    answers = run(file, color=np.array(["red", "", "blue"], object), size=np.array([1, 2, 3], np.float32))
    columns: dict[str, Any] = {"color": ["red", None, "blue"], "size": [1.0, 2.0, 3.0]}
    return Made(file, ("--data", folder / "rows.csv"), columns, answers, told="or null (guessed: 9 rows of rows.csv")


def outside(folder: Path) -> Made:
    """A folder of an ONNX file whose weights lie beside it."""
    model = graphs.model(graphs.REGRESSION)
    for weight in model.graph.initializer:  # those of the text form are no raw bytes, which alone lie outside
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    answers = run(folder / "m.onnx", x=np.array(ROWS, np.float32))
    return Made(folder, example(folder, ROWS[0]), {"x": ROWS}, answers, told="1 weights lie in other files")


def network() -> tuple[Net, list[list[float]]]:
    """A network, and its probabilities for the rows."""
    torch.manual_seed(0)
    net = Net(5).eval()
    with torch.inference_mode():
        return net, torch.softmax(net(torch.tensor(ROWS)), 1).tolist()


def of_network(file: Path, answers: list[list[float]], *options: str, told: str) -> Made:
    """A file of the network."""
    options = ("--labels", ",".join(LABELS), *options)
    return Made(file, (*options, *example(file.parent, ROWS[0])), {"values": ROWS}, answers, LABELS, told)


def program(folder: Path) -> Made:
    """A program of ``torch.export``."""
    net, answers = network()
    batch = ({0: torch.export.Dim("rows")},)
    torch.export.save(torch.export.export(net, (torch.rand(2, 3),), dynamic_shapes=batch), folder / "net.pt2")
    return of_network(folder / "net.pt2", answers, told="torch.export, opset")


def script(folder: Path) -> Made:
    """TorchScript."""
    net, answers = network()
    with quiet():  # it is deprecated
        torch.jit.script(net).save(str(folder / "net.pt"))  # type: ignore[no-untyped-call]
    return of_network(folder / "net.pt", answers, told="TorchScript, opset")


def weights(folder: Path, suffix: str) -> Made:
    """A file of weights, with the class that they belong to."""
    net, answers = network()
    file = folder / f"net{suffix}"
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(net.state_dict(), file)
    else:
        torch.save(net.state_dict(), file)
    module = f"{Net.__module__}:Net"
    return of_network(file, answers, "--module", module, "--kwargs", '{"width": 5}', told=f"{module} with its weights")


def halved(folder: Path) -> Made:
    """TorchScript whose loop depends on the values."""
    with torch.inference_mode():
        answers = [[float(Halved()(torch.tensor([row])))] for row in ODD]
    file = unconverted.save_script(folder / "halved.pt")
    return Made(file, example(folder, {"x": ODD[0]}), {"x": ODD}, answers, told="it does not convert to ONNX")


def waves(folder: Path) -> Made:
    """A program of functions that ONNX lacks."""
    with torch.inference_mode():
        answers = Waves()(torch.tensor(ODD)).softmax(1).tolist()
    options = ("--labels", "a,b,c", *example(folder, {"x": ODD[0]}))
    file = unconverted.save_program(folder / "waves.pt2")
    return Made(file, options, {"x": ODD}, answers, ("a", "b", "c"), "it does not convert to ONNX")
