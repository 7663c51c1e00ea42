"""The parts of the monitor, put together as the command serves them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from handlers.observe.redaction import redaction_of
from handlers.observe.settings import CaptureSettings, Credentials
from monitoring.api.access import Access
from monitoring.api.alerts import alerts_router
from monitoring.api.catalog import catalog_router
from monitoring.api.events import Ingest, events_router
from monitoring.api.feedback import feedback_router
from monitoring.api.jobs import jobs_router
from monitoring.api.leader import leader_router
from monitoring.api.promotions import actions_router
from monitoring.api.quality import live_router
from monitoring.api.targets import targets_router
from monitoring.app import Health, Task, create_app
from monitoring.console.actions import Actions
from monitoring.console.router import console_router
from monitoring.console.traffic import traffic_router
from monitoring.console.trial import Trial
from monitoring.housekeeping import Housekeeping, Keeping
from monitoring.live.clock import EventClock, wall_clock
from monitoring.live.live import Live, QualityWindow
from monitoring.live.metrics import LiveMetrics
from monitoring.live.probe import TIMEOUT, Prober
from monitoring.live.settings import MonitorSettings
from monitoring.live.traffic import Traffic
from monitoring.live.while_leading import WhileLeading
from monitoring.retraining.launch.place import TrainingPlace, launcher_of
from monitoring.retraining.metrics import RetrainingMetrics
from monitoring.retraining.runner import Runner
from monitoring.retraining.versions import Service
from monitoring.retraining.wiring import ConfirmedRollout, Policies, closed_loop
from monitoring.store.contracts import Contracts
from monitoring.store.database import database_url
from monitoring.store.leases import Lease
from monitoring.store.predictions import Store, open_store
from monitoring.store.pruning import Pruner
from monitoring.store.retention import Retention
from monitoring.store.sqlite.backup_task import BackupPolicy, BackupTask
from serving.hosts.chosen import HOSTS, chosen, exporters, name_of, running
from serving.hosts.fleet import FleetRollout, FleetSettings
from serving.hosts.host import Host, Reach, Rollout
from serving.readiness import former_handlers
from serving.registry import ArchiveError, Registry
from serving.security.house_key import HouseKey
from serving.settings import Settings
from serving.store.opening import open_registry

PRUNE_INTERVAL = 60.0  # s


@dataclass(frozen=True)
class Monitor:
    """The application with the store and the lease behind it; ``close`` it afterwards."""

    app: FastAPI
    store: Store
    lease: Lease

    def close(self) -> None:
        """Let another monitor take over, and close the store."""
        _release(self.lease)
        self.store.close()


def assemble(settings: Settings, environ: Mapping[str, str], options: MonitorSettings) -> Monitor:
    """Open the store, and put the monitor together.

    Raises:
        DatabaseError: the database cannot be reached or used.
        ValueError: a variable is out of its range; names it.
    """
    window, policies = QualityWindow.from_environment(environ), Policies.from_environment(environ)
    backups, keeping = BackupPolicy.from_environment(environ), Keeping.from_environment(environ)
    launcher = launcher_of(TrainingPlace.from_environment(environ), settings, environ)
    registry, models = CollectorRegistry(), open_registry(settings)
    credentials = Credentials.from_environment(environ)
    redact = redaction_of(CaptureSettings.from_environment(environ).redaction)
    inference_url = options.inference_url or settings.inference_url
    key = HouseKey(settings.board, inference_url)
    client = httpx.Client(timeout=TIMEOUT, trust_env=False, auth=key)  # a proxy would not come back to this machine
    reach = Reach(inference_url, options.management_url, credentials.token)
    host = running(settings) or chosen(settings)
    prober = Prober(models, inference_url, registry, client)
    rollout = _rollout(FleetSettings.from_environment(environ), policies, host, settings, reach, client)
    store = open_store(database_url(environ, settings.run_dir), Retention.from_environment(environ))
    lease = Lease(store.database)
    leads = lambda: lease.held  # noqa: E731
    service = Service(inference_url, client, ConfirmedRollout(rollout, lease.confirm))
    contracts, access = Contracts(models), Access(credentials)
    event_clock = EventClock(store.newest(until=wall_clock()) or datetime.fromtimestamp(0, UTC))
    now = event_clock if options.clock == "events" else wall_clock
    live = Live(store, contracts, window, now, leads=leads)
    watched = store.database.watched
    backup = BackupTask(watched, backups, registry, wall_clock, lease) if watched else None
    pruner = Pruner(store, now, registry, lease)
    housekeeping = Housekeeping(settings, store.journal, models, keeping)
    loop = closed_loop(settings, policies, store, contracts, service, now, launcher)
    registry.register(WhileLeading(LiveMetrics(live), leads))
    registry.register(WhileLeading(RetrainingMetrics(store.journal, models), leads))
    actions = Actions(loop.retraining, loop.challenges, loop.promotions)
    urls = partial(_exporters, options, host, settings)
    traffic = Traffic(urls, httpx.Client(trust_env=False))
    routers = [
        events_router(Ingest(store, contracts, registry, event_clock.advance), access),
        feedback_router(store, contracts, access, registry, now, redact),
        catalog_router(store, contracts),
        live_router(live, contracts, window),
        jobs_router(store.journal, loop.retraining, loop.challenges, access),
        actions_router(loop.promotions, access),
        alerts_router(loop.retraining, loop.promotions, access),
        console_router(store, live, contracts, access, actions, Trial(inference_url, client)),
        traffic_router(traffic, models, access.needs_token),
        leader_router(lease, registry),
        targets_router(urls, name_of(host), registry),
    ]
    tasks: list[Task] = [
        lease.keep_forever,
        partial(pruner.run_forever, PRUNE_INTERVAL),
        partial(live.run_forever, options.live_interval),
        traffic.run_forever,
        Runner(loop, options.live_interval, lease).run_forever,
        *([backup.run_forever] if backup else []),
        partial(housekeeping.run_forever, wall_clock, lease, pruner.holds),
    ]
    served = None if host is HOSTS["direct"] else models  # the others run the code of archives
    health = Health(prober, registry, lambda: _notices(lease, pruner, backup, served))
    leave = partial(_release, lease)
    app = create_app(health, options.probe_interval, routers, tasks, access.admit, leave)
    return Monitor(app, store, lease)


def _exporters(options: MonitorSettings, host: Host, settings: Settings) -> Sequence[str]:
    """Return the URLs of the exporters: those that are named, else those of the host's machines."""
    named = options.exporter_url.replace(",", " ").split()
    return [url.rstrip("/") for url in named] or exporters(host, settings)


def _rollout(
    fleet: FleetSettings, policies: Policies, host: Host, settings: Settings, reach: Reach, client: httpx.Client
) -> Rollout:
    """Return what changes the served versions.

    Raises:
        ValueError: versions were to be served beside a champion, and a fleet serves none.
    """
    if not fleet.fleet:
        return host.rollout(settings, reach)
    if policies.judge.shadow_requests:
        raise ValueError("MARLOOP_FLEET is on: MARLOOP_SHADOW_REQUESTS must be 0, as only champions are served")
    return FleetRollout(open_registry(settings), client, reach.inference_url)


def _release(lease: Lease) -> None:
    with contextlib.suppress(SQLAlchemyError):  # a lease that is not released runs out
        lease.release()


def _notices(lease: Lease, pruner: Pruner, backup: BackupTask | None, served: Registry | None) -> Iterator[str]:
    """Yield the notices of ``/readyz``.

    Args:
        served: names the champions whose own handlers run; None where those of the installation do.
    """
    if served:
        with contextlib.suppress(ArchiveError):  # a damaged registry is told by the probes
            yield from former_handlers(served)
    if pruner.refused:
        yield pruner.refused
    if backup and backup.fault:
        yield backup.fault
    if lease.rival:
        yield f"another monitor leads: {lease.holder}"
