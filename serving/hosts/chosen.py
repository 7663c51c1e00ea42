"""The table of hosts, and the choice of one by the settings or by what runs."""

from collections.abc import Mapping, Sequence

from serving.hosts.direct import background as direct
from serving.hosts.host import Host, LaunchError, Say
from serving.hosts.ray import background as ray
from serving.hosts.ray import machines
from serving.hosts.torchserve import background as torchserve
from serving.readiness import Readiness
from serving.settings import HostName, Settings
from serving.store.opening import open_registry
from serving.store.shared.mirror import synchronise

HOSTS: Mapping[HostName, Host] = {"torchserve": torchserve, "direct": direct, "ray": ray}


def chosen(settings: Settings) -> Host:
    """Return the host that the settings name."""
    return HOSTS[settings.host]


def running(settings: Settings) -> Host | None:
    """Return the host that runs for these settings, even if they name another; None if none runs."""
    return next((host for host in HOSTS.values() if host.find(settings)), None)


def start(settings: Settings, say: Say) -> list[Readiness]:
    """Start the host that the settings name, or bring it up to date; see ``Host.start``.

    A shared model store is copied here first; one that does not answer is served as it was last seen.

    Raises:
        ArchiveError: the store does not answer, and was never seen here.
        LaunchError: also where another host runs.
    """
    host, other = chosen(settings), running(settings)
    if other not in (None, host):
        what = f"{other.TITLE} runs here, and there is room for one host: `make down` stops it"
        raise LaunchError(f"{what}, then `{up(settings)}` starts {host.TITLE}")
    synchronise(open_registry(settings))
    return host.start(settings, say=say)


def exporters(host: Host, settings: Settings) -> Sequence[str]:
    """Return the URLs of the exporters of a host's workers: one of each machine that it serves on."""
    return machines.exporters(settings) if host is HOSTS["ray"] else [settings.exporter_url]


def name_of(host: Host) -> HostName:
    """Return the name of a host, by which settings choose it."""
    return next(name for name, other in HOSTS.items() if other is host)


def up(settings: Settings) -> str:
    """Return the command that starts the host of the settings."""
    return "make up" if settings.host == Settings().host else f"make up HOST={settings.host}"
