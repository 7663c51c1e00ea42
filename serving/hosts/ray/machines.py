"""The machines of a cluster of Ray, as Ray lists them for Prometheus (Ray documentation, "Collecting metrics")."""

from typing import Any

import msgspec

from serving.hosts.ray.settings import Place
from serving.settings import Settings

LIST = "prom_metrics_service_discovery.json"  # below the folder of Ray; the head writes it every five seconds


class _Group(msgspec.Struct, frozen=True):
    targets: list[str] = []
    labels: dict[str, Any] = {}


def addresses(place: Place) -> list[str]:
    """Return the addresses of the machines that live, in order; empty where no head has listed them."""
    try:
        groups = msgspec.json.decode((place.folder / LIST).read_bytes(), type=list[_Group])
    except (OSError, msgspec.DecodeError):
        return []
    # Ray lists the ports of its own metrics, several a machine.
    return sorted({target.rpartition(":")[0] for group in groups for target in group.targets} - {""})


def exporters(settings: Settings) -> list[str]:
    """Return the URLs of the exporters of all machines, on one port; this machine's alone where none are listed."""
    urls = [f"http://{address}:{settings.exporter_port}" for address in addresses(Place(settings))]
    return urls or [settings.exporter_url]
