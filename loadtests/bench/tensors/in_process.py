"""One Python process without a server: decode, run, encode. It gives the ceiling and the expected answers."""

import time
from pathlib import Path

from handlers.engine import load_engine
from handlers.formats.codec import Codec
from handlers.formats.image import ImageCodec
from handlers.handler import ModelHandler
from handlers.message import Request
from loadtests.bench.tensors.workloads import Exchange
from serving.archive import read_contract

BATCH = 64  # requests


class InProcess:
    """The core of Marloop's handlers on one model.

    Args:
        directory: folder of a contract and its ONNX graph.
    """

    def __init__(self, directory: Path) -> None:
        self.contract = read_contract(directory)
        codec = (Codec if self.contract.has_named_rows else ImageCodec)(self.contract, max_rows=1024)
        engine = load_engine("onnxruntime", directory, self.contract, threads=1)
        self._handler = ModelHandler(self.contract, engine, codec)

    def answers(self, exchange: Exchange) -> list[object]:
        """Return the expected answer to every body of an exchange.

        Raises:
            ValueError: a body is no valid request.
        """
        responses = self._handler.handle(_requests(exchange))
        wrong = next((response for response in responses if response.status != 200), None)
        if wrong:
            raise ValueError(f"a request of the benchmark is not valid: {wrong.body.decode()}")
        return [exchange.decode(response.body) for response in responses]

    def per_second(self, exchange: Exchange, seconds: float) -> float:
        """Measure the requests that are answered in a second, in batches of ``BATCH``."""
        batch = _requests(exchange)
        batch = (batch * (BATCH // len(batch) + 1))[:BATCH]
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            self._handler.handle(batch)
            count += BATCH
        return count / (time.perf_counter() - started)


def _requests(exchange: Exchange) -> list[Request]:
    headers = {name.lower(): value for name, value in exchange.headers.items()}
    return [Request(body, headers) for body in exchange.bodies]
