"""Locust's file: users and shape of the plan, the metrics of the run, and the gate at its end.

``marloop load`` starts it; ``locust -f loadtests/locustfile.py`` does too, with MODEL and PROFILE set.
"""

import logging
import os
import signal
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner, WorkerRunner
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from rich.console import Console

from loadtests.plan import Plan, contracts, key_headers
from loadtests.profiles import PROFILES, RECOVERY, SETTLING, Stage
from loadtests.results.gate import Gate
from loadtests.results.metrics import LoadCollector
from loadtests.shapes import ProfileShape
from loadtests.slo import read_slo
from loadtests.users import ChatUser as ChatUser  # Locust looks for classes of users among the names of this module
from loadtests.users import TensorUser as TensorUser
from loadtests.users import key, user_class
from serving.settings import Settings

plan = Plan.from_environment(os.environ)
slo = read_slo(plan.slo_path)
settings = Settings.from_environment(os.environ)
models = {contract.name: contract for contract in contracts(settings, plan.model)}
# Drawing their requests takes a while: it is done before a worker meets its master.
user_classes = [
    user_class(contract, slo.weight(name), slo.pacing(name, plan.profile, PROFILES[plan.profile].pacing), plan.seed)
    for name, contract in models.items()
]
# Ctrl-C is a way to end, not a fault to be printed. It is raised in a greenlet of its own, which gevent hands to the
# main one. Python raises it in whichever runs: a thread of the metrics' server swallowed it, and the run went on.
hub = gevent.get_hub()
hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)
# A spike starts all its users at once, of which Locust warns.
logging.getLogger("locust.runners").addFilter(lambda record: "spawn rate is very high" not in str(record.msg))


def interrupt() -> None:
    """End the run."""
    raise KeyboardInterrupt


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell ignores it in the background
    gevent.signal_handler(signal.SIGINT, interrupt)


class Shape(ProfileShape):
    """The course of the plan's profile."""

    profile = PROFILES[plan.profile].scaled(plan.users, plan.seconds)


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: Any) -> None:
    """Set up the users of each model, gate and metrics; workers only send the load."""
    key.update(key_headers(settings, environment.host or "", os.environ))
    environment.user_classes = list(user_classes)
    environment.available_user_classes = environment.user_classes_by_name  # type: ignore[assignment]
    if isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = 0  # wrong answers are the master's to judge
        return
    _expose(environment)
    objectives = {name: slo.objectives(name, plan.profile) for name in models}
    gate = Gate(objectives, lambda: environment.stats, Console(highlight=False), plan.report_path)
    shape: Any = environment.shape_class
    # A master's figures of its workers are this old.
    lag = WORKER_REPORT_INTERVAL if isinstance(environment.runner, MasterRunner) else 0.0

    def begin(stage: Stage) -> None:
        gate.begin(stage)
        if stage.name == RECOVERY:
            gevent.spawn_later(SETTLING + lag, gate.begin_recovery)

    shape.on_stage = begin

    def judge(**_: Any) -> None:
        exceptions = environment.runner.exceptions.values() if environment.runner else ()
        count = sum(exception["count"] for exception in exceptions)
        environment.process_exit_code = gate.judge(shape.finished, count)

    environment.events.quitting.add_listener(judge)  # type: ignore[no-untyped-call]
    environment.events.quit.add_listener(lambda exit_code, **_: gate.show(exit_code))  # type: ignore[no-untyped-call]


def _expose(environment: Environment) -> None:
    """Show the metrics on Locust's page where there is one, else on a port of their own."""

    def users() -> int:
        return environment.runner.user_count if environment.runner else 0

    registry = CollectorRegistry()
    registry.register(LoadCollector(lambda: environment.stats, users, list(models)))
    if environment.web_ui and environment.web_ui.app:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        environment.web_ui.app.add_url_rule("/metrics", "metrics", lambda: (generate_latest(registry), headers))
    elif plan.metrics:
        address, _, port = plan.metrics.rpartition(":")
        start_http_server(int(port), address, registry)
