"""Two ways to serve the same model, loaded in turn: the effect of a setting, a checkout or another store's archive.

    marloop versus --set MARLOOP_TELEMETRY=off             # what telemetry costs
    marloop versus --checkout ../before                    # its config.properties and launcher
    marloop versus --store ../other/model_store            # its archives, and the handlers in them
    marloop versus --host direct --store ../with/keys      # both without TorchServe

Both services run at once on free ports; the one that is not loaded is idle. Trust the ratio more than the rates.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec

from loadtests import wrk
from loadtests.bench import environments
from loadtests.plan import key_headers
from loadtests.tune.champion import Champion
from serving.command_line import ENV_FILE, OFF
from serving.ports import free_ports
from serving.processes import running
from serving.readiness import ask_all
from serving.registry import Registry
from serving.security import house_key
from serving.settings import ROOT, Settings


@dataclass(frozen=True)
class Side:
    """A way to serve.

    Attributes:
        checkout: folder whose launcher and configuration are used.
        environment: variables beside this process's.
    """

    store: Path
    checkout: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=dict)


class Ratio(msgspec.Struct, frozen=True):
    """The other side against this one, over the rounds.

    Attributes:
        throughput: median, lowest and highest ratio of the rates.
        p50: median ratio of the median latencies.
        p99: median ratio of the 99th percentiles.
    """

    throughput: tuple[float, float, float]
    p50: float
    p99: float


@contextmanager
def served(side: Side) -> Iterator[Settings]:
    """Serve a side on free ports until the block ends.

    Yields:
        Its settings, with its ports.

    Raises:
        StartError: the service does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="mv-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        ports = dict(zip(("inference", "management", "metrics"), free_ports(3), strict=True))
        grpc = dict(zip(("grpc_inference", "grpc_management"), free_ports(2), strict=True))
        named = {f"MARLOOP_{port.upper()}_PORT": str(number) for port, number in (ports | grpc).items()}
        folders = {"MARLOOP_MODEL_STORE": str(side.store), "MARLOOP_RUN_DIR": str(folder / "run"), "TMPDIR": name}
        own = {"MARLOOP_METRICS_DIR": "", "PYTHONPATH": str(side.checkout)}
        own |= {ENV_FILE: OFF}  # a checkout's ``.env`` is for the service that it runs
        environment = environments.quiet() | named | folders | own | dict(side.environment)
        settings = Settings.from_environment(environment)
        command = [sys.executable, "-m", "serving", "launch" if settings.host == "torchserve" else "supervise"]
        with running(command, environment, folder / "log") as server:
            registry = Registry(side.store)

            def ready() -> bool:
                return all(answer.ready for answer in ask_all(registry, settings.inference_url, house_key.of(settings)))

            server.wait_until(ready)
            yield settings


def compare(
    sides: tuple[Side, Side], model: str, clients: int, rounds: int, seconds: float, say: Callable[[str], None]
) -> Ratio:
    """Load both sides in turn.

    Args:
        sides: this one, and the other.
        rounds: number of loads of each, after a warm-up.

    Raises:
        ArchiveError: a side has no champion of the model.
        StartError: a side does not come up.
        WrkError: no load can be made.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        champion = Champion.of(sides[0].store, model)
        runs: list[tuple[str, Path]] = []
        for i, side in enumerate(sides):
            settings = stack.enter_context(served(side))
            key = key_headers(settings, settings.inference_url, side.environment)
            script = champion.write_requests(folder / f"requests-{i}.lua", key)
            runs.append((f"{settings.inference_url}/predictions/{model}", script))
        for url, script in runs:
            wrk.run(url, script, clients, max(3.0, seconds))
        loads: list[tuple[wrk.Load, wrk.Load]] = []
        for i in range(rounds):
            here, there = (wrk.run(url, script, clients, seconds) for url, script in runs)
            loads.append((here, there))
            say(f"round {i + 1}: {here.per_second:,.0f} and {there.per_second:,.0f} answers a second")
    return summary(loads)


def summary(loads: list[tuple[wrk.Load, wrk.Load]]) -> Ratio:
    """Compute medians and ratios of the rounds."""
    throughput = sorted(there.per_second / here.per_second for here, there in loads)
    return Ratio(
        (median(throughput), throughput[0], throughput[-1]),
        median(there.p50 / here.p50 for here, there in loads),
        median(there.p99 / here.p99 for here, there in loads),
    )
