"""The deadline of a model's answer, from the time of its largest request here.

A worker that misses it is replaced, and meanwhile its model answers nobody: the deadline must be short. But a worker
that is only slow, as on a busy machine, must not be replaced: the deadline is ten times the measured time.
"""

import math
import time
from dataclasses import replace
from pathlib import Path

import msgspec

from handlers.contract import ModelContract
from handlers.engine import load_engine
from handlers.engine.isolation import ISOLATED
from handlers.formats.requests import native_row, v1_request
from handlers.handler import ModelHandler
from handlers.message import JSON, Request
from training.packaging.contents import codec_of
from training.recipe import Serving

TIMES = 10  # factor of the measured time
LEAST, MOST = 2, 120  # s; TorchServe accepts whole seconds
RESTART = 20  # s at least, where a process of the engine's own may have to start again before it answers
ATTEMPTS = 5


def with_deadline(entry_point: str, contract: ModelContract, graphs: Path, serving: Serving) -> Serving:
    """Return settings with a ``response_timeout``: the chosen one, else ten times the measured time."""
    if serving.response_timeout is not None:
        return serving
    seconds = slowest(entry_point, contract, graphs, serving)
    least = RESTART if serving.isolated or serving.engine in ISOLATED else LEAST
    return replace(serving, response_timeout=min(MOST, max(least, math.ceil(TIMES * seconds))))


def slowest(entry_point: str, contract: ModelContract, graphs: Path, serving: Serving) -> float:
    """Return the seconds of the slowest of some requests, with the example's row as often as is accepted."""
    engine = load_engine(serving.engine, graphs, contract, serving.threads or 1)
    codec = codec_of(entry_point).open(graphs, contract, serving.max_rows)
    handler = ModelHandler(contract, engine, codec)
    row = native_row(contract, contract.example.request)
    body = msgspec.json.encode(v1_request(contract, [row] * codec.max_rows))
    seconds = []
    for _ in range(ATTEMPTS):
        started = time.perf_counter()
        (response,) = handler.handle([Request(body, {"content-type": JSON}, id="deadline")])
        seconds.append(time.perf_counter() - started)
        if response.status != 200:
            raise RuntimeError(f"{contract.name}: its example is refused {codec.max_rows} times: {response.body!r}")
    return max(seconds)
