"""A registered version, opened in this process: it answers captured rows as a worker of TorchServe would."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from handlers.contract import ModelContract
from handlers.engine import Engine, load_engine
from handlers.formats.codec import Codec
from handlers.formats.requests import native_request
from handlers.handler import ModelHandler
from handlers.message import JSON, Request, Response
from handlers.service import MAX_ROWS
from monitoring.store.records import Prediction
from serving import archive
from serving.registry import ArchiveError, Registry
from training.champion import unpack
from training.packaging.contents import codec_of

BATCH = 100  # requests of one row each that are answered together


@dataclass(frozen=True)
class Refusal:
    """An error in place of the answer to a row that a version does not accept.

    Attributes:
        why: the error's message, with the place of the fault.
    """

    why: str


class Archived:
    """A version that answers by the whole path of a request, from bytes to bytes.

    Args:
        clock: monotonic clock, in seconds.
    """

    def __init__(
        self, contract: ModelContract, engine: Engine, codec: Codec, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.contract = contract
        self._clock = clock
        self._handler = ModelHandler(contract, engine, codec, observers=())

    def answers(self, rows: Sequence[Prediction]) -> list[Any]:
        """Answer captured rows, of this version or another.

        Returns:
            One output a row, as captured: a number of a regression; ``{"label", "probabilities"}`` of a
            classification; ``Refusal`` for a row that it does not accept.
        """
        return [self._output(response) for response in self._responses(rows)]

    def seconds(self, row: Prediction) -> float:
        """Measure the seconds that the answer to one row takes, sent alone."""
        requests = [Request(self._body(row), {"content-type": JSON}, id="timed")]
        started = self._clock()
        self._handler.handle(requests)
        return self._clock() - started

    def check_example(self) -> None:
        """Answer the contract's own example.

        Raises:
            RuntimeError: the answer is not the contract's.
        """
        self._handler.check_example()

    def _responses(self, rows: Sequence[Prediction]) -> Iterator[Response]:
        headers = {"content-type": JSON}
        if self.contract.task == "classification":
            headers["x-top-k"] = str(len(self.contract.labels))  # every probability
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            yield from self._handler.handle([Request(self._body(row), headers, id=row.request_id) for row in some])

    def _body(self, row: Prediction) -> bytes:
        return msgspec.json.encode(native_request(self.contract, row.features))

    def _output(self, response: Response) -> Any:
        answer = msgspec.json.decode(response.body)
        if response.status != 200:
            return Refusal("{message} - at `{path}`".format(**answer["error"]))
        prediction = answer["prediction"]
        if self.contract.task != "classification":
            return prediction
        ranked = sorted(prediction.get("top_k", [prediction]), key=lambda member: member["index"])
        return {"label": prediction["label"], "probabilities": [member["probability"] for member in ranked]}


def open_archive(registry: Registry, name: str, number: str, folder: Path) -> Archived:
    """Open a version with the engine, codec and limits that it is served with.

    Its engine computes with one thread, so that two versions that are timed in turn are timed alike.

    Args:
        number: may be a version of any state.
        folder: gets the version's files; one for each version, which must exist as long as the version is used.

    Raises:
        ArchiveError: there is no such version, or its archive is missing, altered or incomplete.
    """
    contract = unpack(registry, name, folder, number)
    try:
        settings = archive.read_config(folder)["handler"]
        codec = codec_of(archive.entry_point(folder)).open(folder, contract, settings.get("max_rows") or MAX_ROWS)
        engine = load_engine(settings.get("engine") or "onnxruntime", folder, contract, threads=1)
    except (ArchiveError, KeyError, TypeError, ValueError, OSError) as error:
        raise ArchiveError(f"the archive of {name} {number} cannot be opened: {error}") from error
    return Archived(contract, engine, codec)
