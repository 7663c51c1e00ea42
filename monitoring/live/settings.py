"""Settings of the monitor at its start."""

from typing import Annotated

from msgspec import Meta

from handlers.observe.settings import EnvironmentSettings, says
from monitoring.live.clock import ClockName

Pause = Annotated[float, Meta(ge=0.1)]


class MonitorSettings(EnvironmentSettings, frozen=True):
    """Addresses of the service, and intervals at which the monitor looks."""

    inference_url: Annotated[str, says("Where the monitor reaches inference; unset: on this machine.", title="URL")] = (
        ""
    )
    management_url: Annotated[
        str,
        says(
            "Where the monitor reaches management: http://… of its port, with MARLOOP_TOKEN, or unix:/… of the "
            "socket; unset: our own socket.",
            title="URL",
        ),
    ] = ""
    exporter_url: Annotated[
        str,
        says(
            "Where the monitor reaches the workers' metrics, of several machines with a comma between two; unset: on "
            "this machine, and with the Ray host on all of its machines.",
            title="URL",
        ),
    ] = ""
    probe_interval: Annotated[Pause, says("Seconds between two probes of a model.")] = 1.0
    live_interval: Annotated[
        Pause, says("Seconds between two looks at quality and drift, and at what was promoted.")
    ] = 30.0
    clock: Annotated[
        ClockName,
        says("What the time is to the monitor: wall, or events, the newest prediction's, for a replay of the past."),
    ] = "wall"
