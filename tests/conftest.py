"""What holds for every test: no ``.env`` of the checkout, and property tests are never judged by their speed."""

import functools
import gc
import logging
import os
import ssl
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.chaos.report import FIGURES, LATE
from tests.support.kept import sources

CAPTURE = ("CAPTURE_URL", "MARLOOP_CAPTURE_SAMPLE", "MARLOOP_CAPTURE_ROWS_PER_SECOND", "MARLOOP_TOKEN")

os.environ["MARLOOP_ENV_FILE"] = "off"  # what tests start inherits it
# The processes of pytest-xdist share the cores: a second thread of OpenMP waits for its turn by spinning, and a small
# network trained so takes ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each client of httpx reads the certificates of all authorities, 30 ms of work, and tests make thousands of clients.
pytest.MonkeyPatch().setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
settings.register_profile("marloop", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("marloop")


def pytest_configure() -> None:
    """Look at the sources before they may change: what this process trains is kept under their hash."""
    sources()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests in the order in which the processes of pytest-xdist are to take them."""
    if hasattr(config, "workerinput"):
        from tests.support.schedule import in_order

        items[:] = in_order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Have files handed out as ``Schedule`` does, unless another way is asked for."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.support.schedule import Schedule

    return Schedule(config, log)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process as a worker finds it, without TorchServe; collector, logging and environment come back as they were."""
    monkeypatch.delitem(sys.modules, "ts", raising=False)
    for name in ("PROMETHEUS_MULTIPROC_DIR", "MARLOOP_LOG_SAMPLE", *CAPTURE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", "true")
    root, ours = logging.getLogger(), logging.getLogger("handlers.observe.logs")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers = []
    yield
    gc.unfreeze()
    root.handlers = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


class Figures:
    """Notes what was measured while a fault was made, for the table of ``python -m tests.chaos``.

    Args:
        note: keeps a property of the test.
    """

    def __init__(self, note: Callable[[str, object], None]) -> None:
        self._note = note

    def __call__(self, text: object) -> None:
        self._note(FIGURES, text)

    def took(self, what: str, seconds: float, promised: float) -> None:
        """Note a time beside the one that was promised; a busy machine may be late without failing the test."""
        self._note(FIGURES, f"{what} after {seconds:.1f} s")
        if seconds > promised:
            self._note(LATE, what)


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Notes figures of the test."""
    return Figures(record_property)
