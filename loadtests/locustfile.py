"""What Locust runs: users and shape of the plan, the metrics of the run, and the gate at its end.

``python -m loadtests run`` starts it; ``locust -f loadtests/locustfile.py`` does too, with MODEL and PROFILE set.
"""

import logging
import os
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner, WorkerRunner
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from rich.console import Console

from loadtests import slo
from loadtests.plan import Plan, contracts
from loadtests.profiles import PROFILES, RECOVERY, SETTLING, Stage
from loadtests.results.gate import Gate
from loadtests.results.metrics import LoadCollector
from loadtests.shapes import shape_of
from loadtests.users import user_class
from serving.settings import Settings

plan = Plan.from_environment(os.environ)
objectives = slo.read(plan.slo_path)
asked = contracts(Settings.from_environment(os.environ), plan.model)
usual = PROFILES[plan.profile].pacing
# Locust takes every class of users and of shapes that it finds among this module's names.
vars().update(
    {
        f"{contract.name}_users": user_class(
            contract,
            objectives.weight(contract.name),
            objectives.pacing(contract.name, plan.profile, usual),
            plan.seed,
        )
        for contract in asked
    }
)
# Ctrl-C is a way to end, not a fault to be printed.
hub = gevent.get_hub()
hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)
# A spike starts all its users at once, of which Locust warns.
logging.getLogger("locust.runners").addFilter(lambda record: "spawn rate is very high" not in str(record.msg))
Shape = shape_of(plan.profile, plan.users, plan.seconds)


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: Any) -> None:
    """Set up gate and metrics; workers only send the load."""
    if isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = 0  # wrong answers are the master's to judge
        return
    names = [contract.name for contract in asked]
    _expose(environment, names)
    of_models = {name: objectives.objectives(name, plan.profile) for name in names}
    gate = Gate(of_models, lambda: environment.stats, Console(highlight=False), plan.report_path)
    shape: Any = environment.shape_class
    # What a master knows of its workers is that old.
    lag = WORKER_REPORT_INTERVAL if isinstance(environment.runner, MasterRunner) else 0.0

    def begin(stage: Stage) -> None:
        gate.begin(stage)
        if stage.name == RECOVERY:
            gevent.spawn_later(SETTLING + lag, gate.begin_recovery)

    shape.on_stage = begin

    def judge(**_: Any) -> None:
        exceptions = sum(one["count"] for one in environment.runner.exceptions.values()) if environment.runner else 0
        environment.process_exit_code = gate.judge(shape.finished, exceptions)

    environment.events.quitting.add_listener(judge)  # type: ignore[no-untyped-call]
    environment.events.quit.add_listener(lambda exit_code, **_: gate.show(exit_code))  # type: ignore[no-untyped-call]


def _expose(environment: Environment, models: list[str]) -> None:
    """Metrics on Locust's page where there is one, else on a port of their own."""

    def users() -> int:
        return environment.runner.user_count if environment.runner else 0

    registry = CollectorRegistry()
    registry.register(LoadCollector(lambda: environment.stats, users, models))
    if environment.web_ui and environment.web_ui.app:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        environment.web_ui.app.add_url_rule("/metrics", "metrics", lambda: (generate_latest(registry), headers))
    elif plan.metrics:
        address, _, port = plan.metrics.rpartition(":")
        start_http_server(int(port), address, registry)
