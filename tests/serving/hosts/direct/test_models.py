"""Workers follow the registry: what is new answers first, what cannot be served is told, nobody is dropped."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handlers.message import Request, Response
from serving import archive
from serving.hosts.direct import models as models_module
from serving.hosts.direct.batches import Batches
from serving.hosts.direct.models import Models
from serving.hosts.direct.unpacked import Unpacked
from serving.registry import Registry
from tests.support.chat_archive import register_echo
from tests.support.serving.stores import add, alter


class Opened(SimpleNamespace):
    """A model that answers with its folder's name, once it was opened."""

    @property
    def idle(self) -> bool:
        return bool(self.batches.idle)

    def close(self) -> None:
        self.closed = True
        self.batches.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Opened]:
    """All models that were opened."""
    every: list[Opened] = []
    monkeypatch.setattr(models_module, "LINGER", 0.1)

    def open_model(folder: Path, entry: str, config: Any, loop: asyncio.AbstractEventLoop, observers: Any) -> Any:
        answer = folder.name.encode()
        batches = Batches(lambda requests, waited: [Response(200, answer) for _ in requests], loop)
        every.append(Opened(batches=batches, patience=10.0, closed=False))
        return every[-1]

    monkeypatch.setattr(models_module, "Model", open_model)
    monkeypatch.setattr(archive, "entry_point", lambda path: "tabular")
    monkeypatch.setattr(archive, "read_config", lambda path: {})
    return every


def models_of(registry: Registry, tmp_path: Path) -> Models:
    return Models(registry, Unpacked(tmp_path / "archives"))


def test_champions_are_served_and_their_paths_known(registry: Registry, tmp_path: Path, opened: list[Opened]) -> None:
    add(registry)
    add(registry, number="1.1", state="challenger")

    async def run() -> Models:
        models = models_of(registry, tmp_path)
        await models.converge()
        return models

    table = asyncio.run(run()).table
    assert table.defaults == {"doubling": "1.0"}
    assert list(table.models["doubling"]) == ["1.0"]
    assert "/predictions/doubling/1.0" in table.targets
    assert "/predictions/doubling/1.1" not in table.targets
    assert len(opened) == 1


def test_a_version_beside_the_champion_is_asked_by_its_number(
    registry: Registry, tmp_path: Path, opened: list[Opened]
) -> None:
    add(registry)
    add(registry, number="1.1", state="challenger")

    async def run() -> Models:
        models = models_of(registry, tmp_path)
        await models.converge([("doubling", "1.1"), ("doubling", "9.9"), ("nothing", "1.0")])
        return models

    table = asyncio.run(run()).table
    assert table.targets["/predictions/doubling/1.1"].model is not table.targets["/predictions/doubling"].model
    assert table.faults == {}


def test_a_new_champion_takes_over_and_the_old_one_answers_what_it_was_asked(
    registry: Registry, tmp_path: Path, opened: list[Opened]
) -> None:
    add(registry)
    add(registry, number="1.1", state="challenger")

    async def run() -> None:
        models = models_of(registry, tmp_path)
        await models.converge()
        before = models.table.targets["/predictions/doubling"].model
        registry.promote("doubling", "1.1")
        waiting = before.batches.submit(Request(b"", {}), 60)
        await models.converge()
        after = models.table.targets["/predictions/doubling"].model
        assert after is not before
        assert (await waiting).status == 200
        async with asyncio.timeout(5):
            while not opened[0].closed:
                await asyncio.sleep(0.01)

    asyncio.run(run())
    assert [model.closed for model in opened] == [True, False]


def test_what_is_served_already_is_not_opened_again(registry: Registry, tmp_path: Path, opened: list[Opened]) -> None:
    add(registry)

    async def run() -> None:
        models = models_of(registry, tmp_path)
        await models.converge()
        await models.converge()

    asyncio.run(run())
    assert len(opened) == 1


def test_a_champion_that_cannot_be_served_is_told_and_the_former_one_stays(
    registry: Registry, tmp_path: Path, opened: list[Opened]
) -> None:
    add(registry)
    add(registry, "tripling")
    alter(add(registry, number="1.1", state="challenger"))

    async def run() -> Models:
        models = models_of(registry, tmp_path)
        await models.converge()
        with registry.change() as versions:
            versions["doubling"]["1.0"].state, versions["doubling"]["1.1"].state = "retired", "champion"
        await models.converge()
        return models

    table = asyncio.run(run()).table
    assert table.defaults == {"doubling": "1.0", "tripling": "1.0"}
    assert list(table.faults) == ["doubling"]
    assert table.faults["doubling"].startswith("1.1: ")


def test_language_models_are_told_of_and_left_to_their_own_processes(
    registry: Registry, tmp_path: Path, opened: list[Opened]
) -> None:
    add(registry)
    for number in ("1.0", "1.1"):
        register_echo(registry.store, "chat", 1, 1, 0.0, version=number)

    async def run() -> tuple[Models, Any]:
        models = models_of(registry, tmp_path)
        await models.converge([("chat", "1.1")])
        first = models.table.elsewhere
        for path in registry.store.glob("chat-*"):
            path.write_bytes(b"damaged")
        await models.converge([("chat", "1.1")])
        return models, first

    models, first = asyncio.run(run())
    assert [contract.version for contract in first["chat"].values()] == ["1.0", "1.1"]
    assert models.table.elsewhere == first
    assert models.table.faults == {}
    assert len(opened) == 1


def test_a_former_version_stays_for_a_request_that_had_found_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_module, "LINGER", 0.3)
    model = SimpleNamespace(idle=True, closed=False)
    model.close = lambda: setattr(model, "closed", True)

    async def run() -> bool:
        retired = asyncio.create_task(models_module._retire(model))
        await asyncio.sleep(0)
        model.idle = False  # its body was read only now
        await asyncio.sleep(0.6)
        early = bool(model.closed)
        model.idle = True
        await asyncio.wait_for(retired, 30)
        return early

    assert not asyncio.run(run())
    assert model.closed
