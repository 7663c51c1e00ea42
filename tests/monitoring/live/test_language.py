"""A language model beside others: nobody tells its quality or drift, and the others go on."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from handlers.contract.model_card import Imported
from monitoring.__main__ import app
from monitoring.api.quality import live_router
from monitoring.live.live import Live, QualityWindow
from monitoring.live.metrics import LiveMetrics
from monitoring.retraining.language.learning import ConversationLearning
from monitoring.retraining.language.policy import ConversationPolicy
from monitoring.retraining.policy import RetrainPolicy
from monitoring.retraining.queue import Retraining, RetrainRefused
from monitoring.retraining.versions import unfit
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import open_store
from serving.registry import Registry
from tests.support.chat_archive import contract, echoed
from tests.support.monitoring.drifting import NOW, regression
from tests.support.serving.stores import add_contract

CHAT, AIR = contract("chat", echoed("Hello")), regression()
WHY = "chat is a language model"


@pytest.fixture
def models(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "models")
    add_contract(registry, CHAT)
    add_contract(registry, AIR)
    return registry


@pytest.fixture
def live(models: Registry, tmp_path: Path) -> Live:
    store = open_store(f"sqlite:///{tmp_path / 'monitor.db'}")
    return Live(store, Contracts(models), QualityWindow(), lambda: NOW, lambda: NOW)


def test_it_has_no_gauges_of_quality_and_drift_and_the_others_have_theirs(live: Live) -> None:
    live.run()
    registry = CollectorRegistry()
    registry.register(LiveMetrics(live))
    text = generate_latest(registry).decode()
    assert 'model="air"' in text
    assert 'model="chat"' not in text


@pytest.mark.parametrize("what", ["quality", "drift"])
def test_who_asks_for_them_is_told_why_there_are_none(live: Live, models: Registry, what: str) -> None:
    application = FastAPI()
    application.include_router(live_router(live, Contracts(models), QualityWindow()))
    client = TestClient(application)
    assert client.get(f"/models/air/{what}").status_code == 200
    refused = client.get(f"/models/chat/{what}")
    assert refused.status_code == 409
    assert WHY in refused.json()["detail"]


def test_its_drift_report_is_refused(models: Registry, tmp_path: Path) -> None:
    environment = {"MARLOOP_MODEL_STORE": str(models.store), "MARLOOP_RUN_DIR": str(tmp_path), "DATABASE_URL": ""}
    done = CliRunner().invoke(app, ["drift-report", "chat"], env=environment)
    assert done.exit_code == 1
    assert WHY in done.output


def test_a_retraining_is_refused_with_the_reason_which_is_kept(models: Registry, tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'monitor.db'}")
    contracts, policy = Contracts(models), RetrainPolicy(rows=10)
    learning = ConversationLearning(store, contracts, ConversationPolicy(), policy, tmp_path)
    retraining = Retraining(store, contracts, policy, lambda _: None, lambda: NOW, learning)
    with pytest.raises(RetrainRefused, match="chat has 0 approved conversations to learn"):
        retraining.request("chat", "hand", "why not")
    (decision,) = store.journal.decisions("chat")
    assert decision.kind == "refused_request"
    assert not store.journal.jobs()
    store.close()


def test_one_that_was_imported_is_not_retrained() -> None:
    lineage = replace(CHAT.lineage, imported=Imported("chat.gguf", "0" * 64, "GGUF, llama", 0))
    assert "that was imported" in (unfit(replace(CHAT, lineage=lineage)) or "")
