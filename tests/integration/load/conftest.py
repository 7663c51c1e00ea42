"""A TorchServe for tests that ask more of it than it can do."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Server, put, serve, settings_for


@pytest.fixture(scope="package")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """TorchServe with linear, which no other test asks; what one flood left is no excuse in the next."""
    store = put(tmp_path_factory.mktemp("load") / "store", "linear")
    with tempfile.TemporaryDirectory() as run_dir, serve(settings_for(store, Path(run_dir))) as server:
        yield server
