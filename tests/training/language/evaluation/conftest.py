"""lm-eval's reader of data keeps what it prepares in a folder of the tests, and fetches nothing."""

from collections.abc import Iterator

import pytest

from training.language.evaluation.tasks import CACHE, OFFLINE


@pytest.fixture(autouse=True, scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """These settings are read when it is imported, which no other test does."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (OFFLINE | {CACHE: str(tmp_path_factory.mktemp("datasets"))}).items():
            patch.setenv(name, value)
        yield
