"""The contenders: each one's command, and the requests that it takes."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handlers.contract import ModelContract
from loadtests.bench import environments
from loadtests.bench.tensors import marloop, workloads
from loadtests.bench.tensors.workloads import JSON, Exchange
from serving.settings import ROOT

Rows = Sequence[Mapping[str, Any]]
ExchangeOf = Callable[[ModelContract, Rows], Exchange]
MODELS = ("flights", "fashion")
WORKLOADS = {  # descriptions and models by workload
    "flights": ("tabular, five features as JSON", "flights"),
    "fashion": ("picture, 28×28 floats as JSON", "fashion"),
    "fashion-int": ("picture, 28×28 integers as JSON", "fashion"),
    "fashion-png": ("picture, PNG", "fashion"),
    "fashion-v2": ("picture, v2 binary tensor", "fashion"),
    "ping": ("GET /ping, which no worker sees", "flights"),
}


@dataclass(frozen=True)
class Contender:
    """A server.

    Attributes:
        name: its key in results and tables.
        what: a description in a few words.
        exchanges: the workloads that it takes part in.
        command: function of a port, the folder of a model and a folder of its own to a command and its environment.
        prepare: makes the command's environment; raises when that is not to be had.
        clients: numbers of clients of its measurements; None for all.
        packages: lists the packages of its environment.
    """

    name: str
    what: str
    exchanges: Mapping[str, ExchangeOf]
    command: Callable[[int, Path, Path], tuple[list[str], dict[str, str]]]
    prepare: Callable[[Callable[[str], None]], None] = lambda say: None
    clients: tuple[int, ...] | None = None
    packages: Callable[[], list[str]] = field(default=list)


def peers(root: Path) -> list[Contender]:
    """Return the other servers, each in an environment under ``root``."""
    plain = _exchanges("/predict", lambda contract, row: workloads.native(row), workloads.read_prediction)
    torchserve = _exchanges(
        "/predictions/model", lambda contract, row: workloads.native(row), workloads.read_prediction
    )
    mlserver = _exchanges("/v2/models/model/infer", workloads.v2_json, workloads.read_v2)
    bentoml = _exchanges("/predict", lambda contract, row: workloads.listed(row), workloads.read_list)
    with_int = {**plain, "fashion-int": _json("/predict", workloads.native, workloads.read_prediction)}
    return [
        _peer(root, "fastapi", "FastAPI, pydantic, 2 workers", plain),
        _peer(root, "fastapi-tuned-1", "FastAPI tuned by hand, 1 worker", plain, "fastapi-tuned", "1", "fastapi"),
        _peer(root, "fastapi-tuned-2", "FastAPI tuned by hand, 2 workers", with_int, "fastapi-tuned", "2", "fastapi"),
        _peer(
            root,
            "starlette-2",
            "Starlette, the same code without FastAPI, 2 workers",
            with_int,
            "fastapi-tuned",
            "2",
            "starlette",
        ),
        _peer(root, "torchserve-stock", "TorchServe, default settings, BaseHandler, 2 workers", torchserve),
        _peer(root, "mlserver", "MLServer, adaptive batching, 2 workers", mlserver),
        _peer(root, "litserve", "LitServe, dynamic batching, 2 workers", plain),
        _peer(root, "bentoml", "BentoML, adaptive batching, 2 workers", bentoml),
        _peer(root, "mosec", "mosec, dynamic batching, 2 workers", plain),
        _peer(root, "ray-serve", "Ray Serve, dynamic batching, 2 replicas", plain),
        _peer(
            root,
            "ray-serve-proxy",
            "Ray Serve, the same with HAProxy, tuned for throughput",
            plain,
            "ray-serve",
            "proxy",
        ),
    ]


def marloops() -> list[Contender]:
    """Return Marloop in its two profiles, on the direct host, and on TorchServe with a handler that checks nothing."""

    def native(model: str) -> ExchangeOf:
        return _json(f"/predictions/{model}", workloads.native, workloads.read_prediction)

    def floats(contract: ModelContract, rows: Rows) -> Exchange:
        return native("fashion")(contract, [workloads.as_floats(row) for row in rows])

    both = {"flights": native("flights"), "fashion": floats}
    every = {**both, "fashion-int": native("fashion"), "fashion-png": _png, "fashion-v2": _v2_binary, "ping": _ping}
    return [
        Contender("marloop", "Marloop, profile throughput", every, _marloop("throughput")),
        Contender("marloop-latency", "Marloop, profile latency", both, _marloop("latency"), clients=(1,)),
        Contender("marloop-direct", "Marloop, direct host, 2 workers", every, _direct),
        Contender("marloop-bare", "its TorchServe, no check, no telemetry", both, _marloop("bare"), clients=(64,)),
    ]


def _peer(
    root: Path, name: str, what: str, exchanges: Mapping[str, ExchangeOf], folder: str = "", *args: str
) -> Contender:
    folder = folder or name
    python = root / folder / "bin" / "python"
    served = environments.PEERS / "served"

    def command(port: int, model: Path, own: Path) -> tuple[list[str], dict[str, str]]:
        serve = environments.PEERS / folder / "serve.py"
        # Ahead of everything that a user's PYTHONPATH could bring in.
        return [str(python), str(serve), str(port), str(model), *args], {"PYTHONPATH": str(served)}

    def prepare(say: Callable[[str], None]) -> None:
        environments.ensure(folder, root, say)

    return Contender(name, what, exchanges, command, prepare, packages=lambda: environments.versions(python))


def _marloop(profile: str) -> Callable[[int, Path, Path], tuple[list[str], dict[str, str]]]:
    def command(port: int, model: Path, own: Path) -> tuple[list[str], dict[str, str]]:
        settings = marloop.settings(port, marloop.repacked(model, profile, own / "store"), own / "run")
        return marloop.COMMAND, {**settings.to_environment(), "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}

    return command


def _direct(port: int, model: Path, own: Path) -> tuple[list[str], dict[str, str]]:
    settings = marloop.settings(port, marloop.repacked(model, "throughput", own / "store"), own / "run", "direct")
    return marloop.SUPERVISE, {**settings.to_environment(), "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}


def _exchanges(
    path: str, body: Callable[[ModelContract, Mapping[str, Any]], bytes], decode: Callable[[bytes], Any]
) -> dict[str, ExchangeOf]:
    def of(contract: ModelContract, rows: Rows) -> Exchange:
        return Exchange(path, JSON, [body(contract, workloads.as_floats(row)) for row in rows], decode)

    return {"flights": of, "fashion": of}


def _json(path: str, body: Callable[[Mapping[str, Any]], bytes], decode: Callable[[bytes], Any]) -> ExchangeOf:
    return lambda contract, rows: Exchange(path, JSON, [body(row) for row in rows], decode)


def _png(contract: ModelContract, rows: Rows) -> Exchange:
    headers = {"Content-Type": "image/png"}
    bodies = [workloads.png(row) for row in rows]
    return Exchange(f"/predictions/{contract.name}", headers, bodies, workloads.read_prediction)


def _v2_binary(contract: ModelContract, rows: Rows) -> Exchange:
    bodies = [workloads.v2_binary(contract, row) for row in rows]
    _, headers = bodies[0]  # the same for all, as the shapes are
    return Exchange(f"/v2/models/{contract.name}/infer", headers, [body for body, _ in bodies], workloads.read_v2)


def _ping(contract: ModelContract, rows: Rows) -> Exchange:
    return Exchange("/ping", {}, [b""], lambda body: None, "GET")
