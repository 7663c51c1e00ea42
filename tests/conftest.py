"""Two processes share the suite: files are handed out whole, and those that share a real TorchServe go to one."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def pytest_itemcollected(item: pytest.Item) -> None:
    """Name the group that the test belongs to, for `pytest -n 2 --dist loadgroup`."""
    file = item.path.relative_to(TESTS)
    item.add_marker(pytest.mark.xdist_group("integration" if file.parts[0] == "integration" else str(file)))
