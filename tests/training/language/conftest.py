"""Tiny language models, made once; skips where the packages that read them are not installed."""

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("gguf", reason="gguf is not installed: pip install -e '.[chat]'")
pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[chat]'")

from tests.support.training import tiny as making
from tests.support.training.tiny import Tiny


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """So narrow a network gains nothing from a second, which waits, spinning, where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Random weights."""
    return making.load(making.write(tmp_path_factory.mktemp("tiny") / "tiny.gguf"))


@pytest.fixture(scope="session")
def taught(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Weights that know a sentence and a conversation by heart."""
    return making.load(making.teach(tiny, tmp_path_factory.mktemp("taught") / "taught.gguf"))
