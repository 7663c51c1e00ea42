"""A monitor with a console, beside a TorchServe and jobs that do what the test says."""

import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client import CollectorRegistry
from sqlalchemy import update

from handlers.contract import Example, ModelContract, TensorSpec, classification_outputs
from handlers.contract.model_card import Evaluation, Lineage, Reference
from handlers.observe.settings import Credentials
from monitoring.api.access import Access
from monitoring.api.catalog import catalog_router
from monitoring.app import Health, create_app
from monitoring.console.actions import Actions
from monitoring.console.router import console_router
from monitoring.console.traffic import traffic_router
from monitoring.console.trial import Trial
from monitoring.live.live import Live, QualityWindow
from monitoring.live.probe import Prober
from monitoring.live.traffic import Traffic
from monitoring.retraining.challenge import Challenges
from monitoring.retraining.policy import JudgePolicy, RetrainPolicy
from monitoring.retraining.promotions import Promotions
from monitoring.retraining.queue import Retraining
from monitoring.retraining.versions import Service, Versions
from monitoring.store import tables
from monitoring.store.contracts import Contracts
from monitoring.store.predictions import open_store
from monitoring.store.records import Feedback, Labelled, State
from serving.registry import Registry
from tests.support.monitoring.drifting import NOW, classification, regression, rows
from tests.support.monitoring.loops import FakeRollout
from tests.support.serving.stores import add_contract

TORCHSERVE = "http://torchserve.test"
ORIGIN = "http://127.0.0.1:8090"
BY_HTMX = {"HX-Request": "true"}
EVALUATION = {
    "primary": "rmse",
    "rows": 8000,
    "metrics": {"rmse": 1.01, "mae": 0.81},
    "intervals": {"rmse": [0.99, 1.03], "mae": [0.79, 0.83]},
}


class World:
    """The monitor; ``client`` asks it from loopback, ``sent`` is what reached TorchServe."""

    def __init__(self, folder: Path, token: str = "") -> None:
        self.folder = folder
        self.models = Registry(folder / "models")
        self.store = open_store(f"sqlite:///{folder / 'monitor.db'}")
        self.sent: list[httpx.Request] = []
        self.answer: httpx.Response | Exception = httpx.Response(200, json={"prediction": 12.5})
        contracts, metrics = Contracts(self.models), CollectorRegistry()
        self.live = Live(self.store, contracts, QualityWindow(), lambda: NOW)
        self.rollout = FakeRollout(self.models)
        self.retraining = Retraining(self.store, contracts, RetrainPolicy(rows=0), lambda _: None, lambda: NOW)
        promotions = Promotions(self.store.journal, self.models, self.rollout, lambda: NOW)
        torchserve = httpx.Client(transport=httpx.MockTransport(self._answer))
        access = Access(Credentials(token))
        service = Service(TORCHSERVE, torchserve, self.rollout)
        versions = Versions(self.store, contracts, service, JudgePolicy())
        challenges = Challenges(self.store.journal, promotions, versions, RetrainPolicy())
        actions = Actions(self.retraining, challenges, promotions)
        console = console_router(self.store, self.live, contracts, access, actions, Trial(TORCHSERVE, torchserve))
        self.seconds, self.page = 0.0, httpx.Response(200, text="")
        exporter = httpx.Client(transport=httpx.MockTransport(lambda request: self.page))
        self.traffic = Traffic(lambda: ["http://exporter.test"], exporter, lambda: self.seconds)
        prober = Prober(self.models, TORCHSERVE, metrics, torchserve)
        routers = [
            catalog_router(self.store, contracts),
            console,
            traffic_router(self.traffic, self.models, access.needs_token),
        ]
        self.app = create_app(Health(prober, metrics), 3600, routers, admit=access.admit)
        self.client = self.client_from("127.0.0.1")

    def client_from(self, address: str, url: str = ORIGIN) -> TestClient:
        return TestClient(self.app, url, client=(address, 50000))

    def add(self, contract: ModelContract, state: Any = "champion", evaluation: Any = EVALUATION) -> Path:
        path = add_contract(self.models, contract, state)
        with self.models.change() as models:
            models[contract.name][contract.version].evaluation = evaluation
        return path

    def observe(self, labelled: Sequence[Labelled]) -> None:
        """These rows were predicted and labelled, and the monitor has looked at them."""
        self.store.add_predictions([one.prediction for one in labelled])
        told = [Feedback(one.prediction.request_id, one.prediction.row, one.label, one.labelled) for one in labelled]
        self.store.add_feedback(told)
        self.live.run()

    def count(self, seconds: float, **series: Mapping[str, float] | None) -> None:
        """Time passes, and the monitor looks at what the exporter has then: of each model, values by code or bound.

        Args:
            seconds: that pass.
            series: by model; None for an exporter that is away.
        """
        self.seconds += seconds
        lines = [
            f'model_requests_total{{model="{model}",version="1.1",protocol="native",code="{label}"}} {value}'
            if label.isdecimal() and len(label) == 3
            else f'model_request_duration_seconds_bucket{{model="{model}",version="1.1",le="{label}"}} {value}'
            for model, values in series.items()
            for label, value in (values or {}).items()
        ]
        self.page = httpx.Response(200 if series else 503, text="\n".join(lines))
        self.traffic.look()

    def run(self, id: int, *lines: str) -> None:
        """The job runs, and its log has these lines more."""
        log = self.folder / f"job-{id}.log"
        with log.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
        self.store.journal.update_job(id, state="running", started=NOW, log=str(log), progress=lines[-1])

    def end(self, id: int, state: State = "promoted", result: Any = None) -> None:
        """The job ends, and the database has this as its result."""
        self.store.journal.update_job(id, state=state, ended=NOW)
        if result is not None:
            with self.store.database.writing() as connection:
                connection.execute(update(tables.jobs).where(tables.jobs.c.id == id).values(result=result))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@functools.cache
def flights(version: str = "1.0") -> ModelContract:
    """A regression with an example."""
    example = Example({"distance": 0.5, "carrier": "B6"}, {"prediction": 0.5})
    return msgspec.structs.replace(regression(version), example=example)


@functools.cache
def clothes() -> ModelContract:
    """A classification of pictures of 4 × 6 pixels."""
    pixels = [[40 * column for column in range(6)] for _ in range(4)]
    return msgspec.structs.replace(
        classification(),
        inputs=(TensorSpec("image", "UINT8", (-1, 4, 6)),),
        example=Example({"inputs": pixels}, {"prediction": {"label": "boot", "index": 0, "probability": 0.9}}),
        reference=Reference(),
    )


def texts() -> ModelContract:
    """A classification of texts, with a switch and a small tensor beside them."""
    return ModelContract(
        name="mood",
        version="1.0",
        task="classification",
        inputs=(
            TensorSpec("text", "BYTES"),
            TensorSpec("polite", "BOOL"),
            TensorSpec("weights", "FP32", (-1, 2)),
            TensorSpec("count", "INT64", range=(0, 9)),
        ),
        outputs=classification_outputs(2),
        labels=("bad", "good"),
        example=Example({"text": "a < b", "polite": True, "weights": [1.0, 2.0], "count": 3}, {"prediction": {}}),
        reference=Reference(),
        evaluation=Evaluation(),
        lineage=Lineage(),
    )


def png(width: int = 6, height: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 200).save(file, "PNG")
    return file.getvalue()


def sent_json(world: World) -> Any:
    """The only request that reached TorchServe."""
    (request,) = world.sent
    return json.loads(request.content)


def registered(folder: Path, token: str = "") -> World:
    """Three models, one of them in three versions."""
    world = World(folder, token)
    for number, state in (("1.0", "retired"), ("1.1", "champion"), ("1.2", "challenger")):
        world.add(flights(number), state)
    world.add(clothes(), evaluation={})
    world.add(texts(), evaluation={})
    return world


def busy(folder: Path) -> World:
    """The same with labelled rows, of which the newest have drifted."""
    world = registered(folder)
    world.observe(rows(flights("1.0"), 600, seed=2) + rows(flights("1.1"), 1000, shift=0.8, error=0.6))
    return world
