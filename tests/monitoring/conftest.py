"""Stores on both kinds of database."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.store.predictions import Store, open_store
from tests.support.monitoring.databases import new_database, postgresql

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a real PostgreSQL."""
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'folder' / 'monitor.db'}"
    return new_database(request.getfixturevalue("server"), f"store_{next(_numbers)}")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store."""
    one = open_store(url)
    yield one
    one.close()
