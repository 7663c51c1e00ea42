"""A version is loaded before it becomes champion, and only then."""

from pathlib import Path

import msgspec
import pytest

from handlers.contract import ModelContract
from handlers.contract.model_card import Evaluation
from serving.registry import ArchiveError, Registry
from tests.support.serving.stores import contract_of_doubling
from training.packaging.registration import Promote, Result, register


def registered(registry: Registry, promote: Promote) -> Result:
    """Register a version whose archive does not load."""

    def check(path: Path) -> None:
        assert path.is_file()
        raise ArchiveError(f"{path} cannot be loaded: ValueError: two classes")

    draft = msgspec.structs.replace(contract_of_doubling(version=""), evaluation=Evaluation(metrics={"rmse": 1.0}))
    return register(draft, ModelContract.to_json, registry, promote, check=check)


@pytest.mark.parametrize("promote", ["auto", "always"])
def test_one_that_would_be_champion_and_does_not_load_is_not_registered(tmp_path: Path, promote: Promote) -> None:
    registry = Registry(tmp_path / "store")
    with pytest.raises(ArchiveError, match="doubling-1.0.mar cannot be loaded: ValueError: two classes"):
        registered(registry, promote)
    assert registry.models() == {}
    assert not list(registry.store.glob("*.mar"))


def test_a_challenger_is_loaded_when_it_is_promoted(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "store")
    assert registered(registry, "never").state == "challenger"
    assert registry.champions() == {}
