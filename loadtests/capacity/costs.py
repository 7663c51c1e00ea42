"""What one model costs, as it was measured on one machine: the constants of the capacity model."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import msgspec

from loadtests.capacity.simulation.service import Service
from serving import documents

EXTRA = "`pip install -c constraints.txt -e '.[capacity]'`"


class CostsError(ValueError):
    """The costs cannot be read, or not be measured."""


class StoreCosts(msgspec.Struct, frozen=True, kw_only=True):
    """What the monitor and its database take for a captured row.

    Attributes:
        database: ``sqlite`` or ``postgresql``.
        row_bytes: on disk, a prediction, its index included.
        label_bytes: on disk, a label; 0 where the model takes none.
        row_seconds: CPU time of the monitor, a row, without the database's own processes.
        rows_per_second: that one caller got stored, 500 rows a call, one call after the other.
    """

    database: str
    row_bytes: float
    label_bytes: float
    row_seconds: float
    rows_per_second: float


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a model costs on the direct host, one worker on a core of its own.

    Attributes:
        measured: ISO 8601.
        machine: in a line.
        rows: rows of a request.
        batch_seconds: CPU time of a batch, whatever its size.
        request_seconds: CPU time that each request of a batch adds, HTTP included.
        fit: largest relative error of the two against the CPU time of a load.
        alone: s, median of a client that asks alone.
        size: bytes of a request's body.
        received: bytes of a request with its head; likewise ``sent`` of an answer.
        worker: MB of a worker after load, pages that several share counted once; likewise ``host`` of what runs beside
            the workers of a machine.
        start: s from the command to the first right answer.
        archive: MB of the file.
        series: time series of a machine with this model; likewise ``scrape``, bytes of its metrics.
        event: bytes of a captured row on its way to the monitor.
        capture: rows a second that each worker captures at most.
        store: what the monitor takes for it; None where that was not measured.
    """

    measured: str
    machine: str
    model: str
    version: str
    rows: int
    batch_seconds: float
    request_seconds: float
    fit: float
    alone: float
    size: int
    received: int
    sent: int
    worker: float
    host: float
    start: float
    archive: float
    series: int
    scrape: int
    event: float
    capture: float
    store: StoreCosts | None = None

    @property
    def service(self) -> Service:
        """The time of a batch."""
        return Service(self.batch_seconds, self.request_seconds)

    @property
    def network(self) -> float:
        """Seconds of a request beside its worker: the way there and back, and the client's own part."""
        return max(0.0, self.alone - self.batch_seconds - self.request_seconds)

    def describe(self) -> Iterator[str]:
        """Yield the costs in words, a line a kind."""
        yield f"{self.model} {self.version}, {self.rows} rows a request, {self.size:,} bytes"
        yield (
            f"a batch takes {1e6 * self.batch_seconds:.1f} µs of CPU, each request {1e6 * self.request_seconds:.1f} µs "
            f"more (within {self.fit:.0%}): at most {self.service.capacity(64):,.0f} requests a second of a core"
        )
        yield f"alone a client waits {1e6 * self.alone:.0f} µs"
        yield f"on the wire {self.received:,} bytes in and {self.sent:,} out"
        yield f"memory: a worker {self.worker:.0f} MB, beside it {self.host:.0f} MB; start {self.start:.1f} s"
        yield f"metrics: {self.series} series, {self.scrape:,} bytes a scrape; a captured row is {self.event:.0f} bytes"
        if self.store:
            stored = self.store
            yield (
                f"{stored.database}: {stored.row_bytes:.0f} bytes a row and {stored.label_bytes:.0f} a label, "
                f"{stored.rows_per_second:,.0f} rows a second from one caller, "
                f"{1e6 * stored.row_seconds:.0f} µs of the monitor each"
            )

    @classmethod
    def read(cls, path: Path) -> "Costs":
        """Read the file that ``marloop capacity measure`` wrote.

        Raises:
            CostsError: it is not there, or is no such file.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            way_out = "`marloop capacity measure` writes one, or `--costs` names another"
            raise CostsError(f"{path}: {error.strerror}: {way_out}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CostsError(f"{path} is no file of `marloop capacity measure`: {error}") from error

    def write(self, path: Path) -> None:
        """Write them to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        documents.write_json(path, self, Costs, private=False)


def require_simulation() -> None:
    """Check that what simulates is installed.

    Raises:
        CostsError: says how it is installed.
    """
    if importlib.util.find_spec("simpy") is None:
        raise CostsError(f"simpy, which simulates, is not installed: {EXTRA} brings it")
