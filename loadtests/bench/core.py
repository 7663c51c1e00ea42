"""Speed of the handlers' core, from bytes to bytes, without TorchServe and without a model's arithmetic.

    python -m loadtests.bench.core                      # microseconds a request, by model, format and batch size
    python -m loadtests.bench.core --against ../before  # this code and another checkout's, in turn, and their ratio

Each version runs in a process of its own. They measure in turn, so that the machine's other work meets both: trust the
ratio more than the times. The whole is CPU time. The stages, which the handler times by the clock, are the least of all
measurements.
"""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from handlers.contract import Array, Example, ModelContract, TensorSpec, classification_outputs
from handlers.contract.model_card import Evaluation, Lineage, Reference
from handlers.formats.codec import Codec
from handlers.formats.image import ImageCodec
from handlers.formats.pictures import encode_png
from handlers.formats.requests import native_request, npy_request, rows_of, to_json, v2_binary_request, v2_request
from handlers.handler import ModelHandler
from handlers.message import JSON, NPY, OCTETS, Request
from serving.processes import running

BATCHES = (1, 64)
SLICE = 0.02  # s of one measurement
STAGES = ("decode", "predict", "encode")
HEADERS = {"host": "127.0.0.1:8080", "user-agent": "bench", "accept": "*/*", "url_path": ""}
Tensors = dict[str, Array]
Writer = Callable[[Tensors], Request]


class Instant:
    """An engine that computes nothing: each row gets the same answer."""

    def __init__(self, contract: ModelContract) -> None:
        self._name = contract.graph_outputs[0]
        self._row = np.full((1, len(contract.labels)) if contract.labels else 1, 0.1, np.float32)

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Return an answer for each row."""
        return {self._name: np.repeat(self._row, len(next(iter(tensors.values()))), axis=0)}


def flights() -> tuple[ModelContract, Tensors]:
    """Return a regression of two numbers and three categories, as many as the real model has, and one row."""
    airports = tuple(f"A{i:02}" for i in range(104))
    inputs = (
        TensorSpec("distance", "FP32", range=(17, 4983)),
        TensorSpec("hour", "INT64", range=(0, 23)),
        TensorSpec("carrier", "BYTES", categories=airports[:16]),
        TensorSpec("origin", "BYTES", categories=airports[:3]),
        TensorSpec("dest", "BYTES", categories=airports),
    )
    strings = {name: np.array([value], object) for name, value in (("carrier", "A12"), ("origin", "A00"))}
    row = {"distance": np.array([1400], "f4"), "hour": np.array([8]), **strings, "dest": np.array(["A52"], object)}
    return _contract("flights", inputs, (TensorSpec("y", "FP32"),), ()), row


def fashion() -> tuple[ModelContract, Tensors]:
    """Return a classification of grey pictures into ten classes, and one picture."""
    labels = tuple(f"label {i}" for i in range(10))
    spec = TensorSpec("image", "UINT8", (-1, 28, 28))
    picture = np.random.default_rng(0).integers(0, 256, (1, 28, 28), np.uint8)
    return _contract("fashion", (spec,), classification_outputs(10), labels), {"image": picture}


def writers(contract: ModelContract) -> dict[str, Writer]:
    """Return the writers of requests in the formats that a model is measured in."""

    def native(tensors: Tensors) -> Request:
        return _json(native_request(contract, rows_of(contract, tensors)[0]))

    def floats(tensors: Tensors) -> Request:
        return native({name: array.astype(float) for name, array in tensors.items()})

    def v2(tensors: Tensors) -> Request:
        return _json(v2_request(contract, tensors))

    def binary(tensors: Tensors) -> Request:
        body, headers = v2_binary_request(contract, tensors)
        return _request(body, OCTETS, {name.lower(): value for name, value in headers.items()})

    def npy(tensors: Tensors) -> Request:
        return _request(npy_request(tensors), NPY)

    def png(tensors: Tensors) -> Request:
        return _request(encode_png(next(iter(tensors.values()))[0]), "image/png")

    shared: dict[str, Writer] = {"native": native, "v2": v2, "v2 binary": binary, "npy": npy}
    return shared if contract.has_named_rows else shared | {"native, floats": floats, "png": png}


class Times(msgspec.Struct, frozen=True):
    """Microseconds a request: the median of the whole, in CPU time, and the least of each stage."""

    total: float
    decode: float
    predict: float
    encode: float


class Cases:
    """The measured cases: batches of requests, by model, format and size, with the handlers that answer them."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._cases: dict[str, tuple[ModelHandler, list[Request]]] = {}
        for contract, row in (flights(), fashion()):
            codec = Codec if contract.has_named_rows else ImageCodec
            handler = ModelHandler(contract, Instant(contract), codec(contract, 1024), [self._observe])
            for name, writer in writers(contract).items():
                for size in BATCHES:
                    self._cases[f"{contract.name}, {name}, {size}"] = handler, [writer(row)] * size

    def names(self) -> list[str]:
        """Return the names of the cases."""
        return list(self._cases)

    def measure(self, name: str) -> Times:
        """Measure one case.

        Raises:
            RuntimeError: a request is refused.
        """
        handler, requests = self._cases[name]
        if any(response.status != 200 for response in handler.handle(requests)):
            raise RuntimeError(f"{name}: {handler.handle(requests)[0].body.decode()}")
        totals: list[float] = []
        stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
        stop = time.perf_counter() + SLICE
        while time.perf_counter() < stop:
            start = time.thread_time()
            handler.handle(requests)
            totals.append(time.thread_time() - start)
            for stage in STAGES:
                stages[stage].append(self._seconds[stage])
        scale = 1e6 / len(requests)
        return Times(scale * median(totals), **{stage: scale * min(seconds) for stage, seconds in stages.items()})

    def _observe(self, batch: Any) -> None:
        self._seconds = batch.seconds


Measure = Callable[[str], Times]


@contextlib.contextmanager
def version(directory: Path) -> Iterator[Measure]:
    """Start a process that measures the code of one checkout, case by case."""
    own = directory / "loadtests" / "bench" / "core.py"  # the version for the handlers beside it
    command = [sys.executable, "-P", str(own if own.exists() else __file__), "--worker"]
    environment = os.environ | {"PYTHONPATH": str(directory)}
    with (
        tempfile.TemporaryDirectory() as folder,
        running(command, environment, Path(folder) / "log", talks=True) as process,
    ):
        yield lambda name: msgspec.json.decode(process.ask(name), type=Times)


def _contract(
    name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], labels: tuple[str, ...]
) -> ModelContract:
    task: Any = "classification" if labels else "regression"
    return ModelContract(
        name, "1.0", task, inputs, outputs, labels, Example({}, {}), Reference(), Evaluation(), Lineage()
    )


def _request(body: bytes, media_type: str, more: Mapping[str, str] | None = None) -> Request:
    headers = HEADERS | {"content-type": media_type, "content-length": str(len(body))} | dict(more or {})
    return Request(body, headers, {}, "7e1321e5-75fa-4d28-b9d8-52ef1ec494d3")


def _json(value: Any) -> Request:
    return _request(to_json(value), JSON)


def _serve() -> None:
    cases = Cases()
    for line in sys.stdin:
        print(msgspec.json.encode(cases.measure(line.rstrip("\n"))).decode(), flush=True)  # noqa: T201


def main(
    against: Annotated[Path | None, typer.Option(help="another checkout, to compare with")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="measurements of each case, the versions in turn")] = 15,
    only: Annotated[str, typer.Option(help="measure the cases whose name holds this")] = "",
    worker: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print microseconds a request for every model, format and batch size."""
    if worker:
        return _serve()
    here = Path(__file__).resolve().parents[2]
    columns = ["model, format, batch", *(["before", "µs", "ratio"] if against else ["µs"]), *STAGES]
    table = Table(*columns, title="microseconds a request, medians", title_justify="left")
    with contextlib.ExitStack() as stack:
        checkouts = [against, here] if against else [here]
        versions = [stack.enter_context(version(directory.resolve())) for directory in checkouts]
        for name in (name for name in Cases().names() if only in name):
            measured = [[measure(name) for measure in versions] for _ in range(rounds)]
            times = [f"{median(times[v].total for times in measured):.1f}" for v in range(len(versions))]
            ratio = [f"{median(after.total / before.total for before, after in measured):.2f}"] if against else []
            stages = (f"{median(getattr(times[-1], stage) for times in measured):.1f}" for stage in STAGES)
            table.add_row(name, *times, *ratio, *stages)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
