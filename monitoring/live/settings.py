"""What the monitor is told when it is started."""

from typing import Annotated

from msgspec import Meta

from handlers.observe.settings import EnvironmentSettings
from monitoring.live.clock import ClockName

Pause = Annotated[float, Meta(ge=0.1)]


class MonitorSettings(EnvironmentSettings, frozen=True):
    """Where the monitor finds the service, and how often it looks."""

    inference_url: Annotated[
        str, Meta(title="URL", description="Where the monitor reaches inference; unset: on this machine.")
    ] = ""
    management_url: Annotated[
        str,
        Meta(
            title="URL",
            description="Where the monitor reaches management: http://… of its port, with MARLOOP_TOKEN, or unix:/… of "
            "the socket; unset: our own socket.",
        ),
    ] = ""
    probe_interval: Annotated[Pause, Meta(description="Seconds between two probes of a model.")] = 1.0
    live_interval: Annotated[
        Pause, Meta(description="Seconds between two looks at quality and drift, and at what was promoted.")
    ] = 30.0
    clock: Annotated[
        ClockName,
        Meta(
            description="What the time is to the monitor: wall, or events, the newest prediction's, for a replay of "
            "the past."
        ),
    ] = "wall"
