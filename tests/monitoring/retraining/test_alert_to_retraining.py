"""The way of a trigger: a gauge over its objective, Prometheus' rule, Alertmanager's webhook, a job in the queue."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import yaml
from fastapi import FastAPI, Response

from handlers.observe.settings import Credentials
from monitoring.api.access import Access
from monitoring.api.alerts import alerts_router
from serving.ports import free_ports
from serving.settings import ROOT
from tests.support.monitoring.loops import MODEL, Loop
from tests.support.monitoring.programs import alertmanager, need, prometheus
from tests.support.waiting import wait_until

CHAMPION, FORMER = f'model="{MODEL}", version="1.0"', f'model="{MODEL}", version="0.9"'
FELL = f"""
model_quality_low{{{CHAMPION}, metric="rmse"}} 12
model_quality{{{CHAMPION}, metric="rmse"}} 13
model_quality_limit{{{CHAMPION}, metric="rmse"}} 12.5
model_quality_expected{{{CHAMPION}, metric="rmse"}} 10
model_quality_rows{{{CHAMPION}}} 500
"""


@contextlib.contextmanager
def listening(app: FastAPI, port: int) -> Iterator[None]:
    """The application on a port of this machine until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join()


def fast(folder: Path, monitor: int, own: int) -> tuple[Path, Path]:
    """The repository's configuration of both with the ports of here, and nothing that waits."""
    real = ROOT / "monitoring"
    config = yaml.safe_load((real / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [{"job_name": "monitor", "static_configs": [{"targets": [f"127.0.0.1:{monitor}"]}]}]
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{own}"]
    groups = [
        group
        | {"interval": "1s", "rules": [rule | ({"for": "0s"} if "alert" in rule else {}) for rule in group["rules"]]}
        for name in ("objectives", "alerts")
        for group in yaml.safe_load((real / f"prometheus/rules/{name}.yml").read_text())["groups"]
        if group["name"] in ("objectives", "quality")
    ]
    told = (
        (real / "alertmanager/alertmanager.yml")
        .read_text()
        .replace("http://monitor:8090", f"http://127.0.0.1:{monitor}")
    )
    manager = yaml.safe_load(told)
    manager["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in manager["receivers"]:
        for hook in receiver["webhook_configs"]:
            hook.pop("http_config", None)  # no token is asked for here
    paths = folder / "prometheus" / "prometheus.yml", folder / "alertmanager" / "alertmanager.yml"
    for path, content in zip(paths, (config, manager), strict=True):
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(content))
    rules = folder / "prometheus" / "rules" / "rules.yml"
    rules.parent.mkdir()
    rules.write_text(yaml.safe_dump({"groups": groups}))
    return paths


def test_a_model_whose_error_is_over_its_objective_is_queued_for_a_retraining(tmp_path: Path) -> None:
    need("prometheus")
    need("prometheus-alertmanager", "alertmanager")
    loop, gauges = Loop(tmp_path), [""]
    app = FastAPI()
    app.include_router(alerts_router(loop.retraining, loop.promotions, Access(Credentials())))

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(gauges[0], media_type="text/plain")

    monitor, own, other = free_ports(3)
    config, manager = fast(tmp_path, monitor, own)
    with listening(app, monitor), alertmanager(manager, own), prometheus(config, other) as client:
        gauges[0] = FELL.replace(CHAMPION, FORMER)  # is no longer served, so that its alert asks for nothing

        def fires(version: str) -> bool:
            query = f'ALERTS{{alertstate="firing", version="{version}"}}'
            return bool(client.get("/api/v1/query", params={"query": query}).json()["data"]["result"])

        wait_until(lambda: fires("0.9"))
        gauges[0] += FELL
        wait_until(lambda: loop.store.journal.jobs() != [])
        (job,) = loop.store.journal.jobs()
        assert (job.model, job.trigger, job.state) == (MODEL, "alert", "queued")
        assert job.reason == "ModelQualityFell: doubling 1.0 errs more than at training: its rmse has become worse."
    loop.store.close()
