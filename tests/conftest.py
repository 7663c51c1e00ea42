"""Two processes share the suite: files are handed out whole, and those that share a real TorchServe go to one."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the group that each test belongs to, for `pytest -n 2 --dist loadgroup`."""
    for item in items:
        file = item.path.relative_to(TESTS)
        group = "integration" if file.parts[0] == "integration" else str(file)
        item.add_marker(pytest.mark.xdist_group(group))
