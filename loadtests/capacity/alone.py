"""One model served by one worker of the direct host, on a core of its own: what costs are measured on."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from prometheus_client.samples import Sample

from handlers.contract import ModelContract
from loadtests.bench import environments
from loadtests.bench.tensors import marloop
from loadtests.capacity.costs import CostsError
from serving.command_line import ENV_FILE, OFF
from serving.hosts.direct.background import find_workers
from serving.metrics.exporter import WorkerMetrics
from serving.ports import free_ports
from serving.processes import Tree, running
from serving.readiness import ask_all
from serving.registry import Registry
from serving.security import house_key
from serving.settings import ROOT, Settings


@dataclass(frozen=True)
class Alone:
    """A running host.

    Attributes:
        registry: of the one model.
        start: s from the command to the first right answer.
        folder: temporary, for files of a measurement.
    """

    settings: Settings
    registry: Registry
    contract: ModelContract
    worker: psutil.Process
    tree: Tree
    start: float
    folder: Path

    @property
    def url(self) -> str:
        """URL of the inference port."""
        return self.settings.inference_url

    def cpu_seconds(self) -> float:
        """Return the CPU time of the worker."""
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def batches(self) -> tuple[float, float]:
        """Return the number of batches that the worker has answered, and of requests in them."""
        samples = [
            sample
            for metric in WorkerMetrics(self.settings.metrics).collect()
            if metric.name == "model_batch_requests"
            for sample in metric.samples
        ]
        return _total(samples, "model_batch_requests_count"), _total(samples, "model_batch_requests_sum")


@contextlib.contextmanager
def serve_alone(store: Path, model: str, variables: Mapping[str, str]) -> Iterator[Alone]:
    """Serve the champion of a model, and nothing else, until the block ends; in the main thread only.

    The worker has the first core of this process, and this process the others, as far as there are any.

    Args:
        variables: of the host, beside those of every server that is measured.

    Raises:
        ArchiveError: the model has no champion, or its archive is not as registered.
        CostsError: the champion is a language model, or what serves has other processes.
        StartError: the host does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="mc-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        registry = _copied(Registry(store), model, folder / "store")
        contract = registry.champion_contract(model)
        if contract.task == "generation":
            raise CostsError(f"{model} is a language model: `marloop bench language` measures it, by its tokens")
        settings = marloop.settings(free_ports(1)[0], registry.store, folder / "run", "direct")
        environment = environments.quiet() | settings.to_environment() | {"TMPDIR": name, "PYTHONPATH": str(ROOT)}
        environment |= {ENV_FILE: OFF, **variables}
        auth = house_key.of(settings)
        with contextlib.ExitStack() as stack:
            stack.callback(marloop.forget, settings.run_dir)
            cores = stack.enter_context(_cores())
            os.sched_setaffinity(0, cores[:1])
            started = time.monotonic()
            tree = stack.enter_context(running(marloop.SUPERVISE, environment, folder / "log"))
            os.sched_setaffinity(0, cores[1:] or cores)
            tree.wait_until(lambda: all(answer.ready for answer in ask_all(registry, settings.inference_url, auth)))
            taken = time.monotonic() - started
            workers = find_workers(settings)
            if len(workers) != 1:
                raise CostsError(f"one worker was to serve {model}, and {len(workers)} do")
            yield Alone(settings, registry, contract, workers[0], tree, taken, folder)


@contextlib.contextmanager
def _cores() -> Iterator[list[int]]:
    """Yield the cores of this process, and give it all of them back when the block ends."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, cores)


def _total(samples: Sequence[Sample], name: str) -> float:
    return sum(float(sample.value) for sample in samples if sample.name == name)


def _copied(registry: Registry, model: str, folder: Path) -> Registry:
    """Return a registry of the champion of a model alone, in a new folder."""
    number, version = registry.champion(model)
    archive = registry.verify(version)
    folder.mkdir()
    shutil.copyfile(archive, folder / archive.name)
    own = Registry(folder)
    with own.change() as models:
        models[model] = {number: version}
    return own
