"""What tests of more than one entry point need."""

import gc
import logging
import sys
from collections.abc import Iterator

import pytest

CAPTURE = ("CAPTURE_URL", "MARLOOP_CAPTURE_SAMPLE", "MARLOOP_CAPTURE_ROWS_PER_SECOND", "MARLOOP_TOKEN")


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
