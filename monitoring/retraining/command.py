"""The command ``challenge``: asks the running monitor for a challenge, and follows the job."""

import os
import time
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import msgspec
import typer

from handlers.observe.settings import Credentials
from monitoring.store.records import UNDER_WAY
from serving import command_line
from serving.command_line import console, fail
from serving.settings import Settings

POLL = 0.5  # s between two looks at the job
TIMEOUT = 30.0  # s; the store may be busy


class MonitorError(Exception):
    """The monitor refuses a call, or does not answer; the message says why."""


class JobState(msgspec.Struct, frozen=True):
    """The part of a job that its follower tells."""

    id: int
    state: str
    progress: str


class Jobs:
    """The jobs of a running monitor."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def challenge(self, model: str, version: str, reason: str) -> JobState:
        """Queue a challenge.

        Raises:
            MonitorError: the monitor refuses it.
            httpx.TransportError: it does not answer.
        """
        path = f"/models/{quote(model, safe='')}/challenge"
        return self._job(self._client.post(path, json={"version": version, "reason": reason}))

    def job(self, id: int) -> JobState:
        """Return a job; errors as of ``challenge``."""
        return self._job(self._client.get(f"/jobs/{id}"))

    def _job(self, response: httpx.Response) -> JobState:
        if response.is_success:
            return msgspec.json.decode(response.content, type=JobState)
        raise MonitorError(_detail(response))


def challenge_command(
    model: Annotated[str, typer.Argument(help="Name of a model with a champion.")],
    version: Annotated[str, typer.Argument(help="Number of a registered version, such as an imported one.")],
    reason: Annotated[str, typer.Option(help="For the record.")] = "asked for by hand",
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the job to its end; the exit code is 0 only if it is promoted.")
    ] = False,
) -> None:
    """Compare a registered version with the champion, on labelled rows or recent requests; the better one serves.

    It is promoted where it proves better, or, where no truth is known, where it answers alike and in time. A promotion
    is watched and rolled back as one of a retraining.
    """
    settings = command_line.settings()
    try:
        token = Credentials.from_environment(os.environ).token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with httpx.Client(base_url=settings.monitor_url, headers=headers, timeout=TIMEOUT, trust_env=False) as client:
            jobs = Jobs(client)
            job = jobs.challenge(model, version, reason)
            page = f"{settings.monitor_url}/console/jobs/{job.id}"
            console.print(f"job {job.id}: {model} {version} challenges the champion: {page}", markup=False)
            if wait and follow(jobs, job).state != "promoted":
                raise typer.Exit(1)
    except httpx.TransportError:
        fail(_away(settings))
    except (MonitorError, ValueError) as error:
        fail(error)


def follow(jobs: Jobs, job: JobState, poll: float = POLL) -> JobState:
    """Print each step of a job until it ends, and return it; a monitor that is away is waited for.

    Raises:
        MonitorError: the job is gone.
    """
    away = False
    while job.state in UNDER_WAY:
        time.sleep(poll)
        try:
            now, away = jobs.job(job.id), False
        except httpx.TransportError:
            if not away:
                console.print("the monitor does not answer; the job goes on when it runs again")
            away = True
            continue
        if now.progress != job.progress:
            console.print(now.progress, markup=False)
        job = now
    return job


def _away(settings: Settings) -> str:
    return f"the monitor does not answer on {settings.monitor_url}: start it with `marloop up`"


def _detail(response: httpx.Response) -> str:
    """Return the sentence of an error, without the frame around it."""
    try:
        detail: Any = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"the monitor answered {response.status_code}: {response.text[:200]}"
    if isinstance(detail, list):  # FastAPI's, one for each fault
        return "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in detail)
    return str(detail)
