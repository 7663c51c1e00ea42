"""Removal of a version, or of a whole model: from the registry, then from the running host, then its files.

A crash in between leaves a registry that can be read and a host that serves what it names. The same command again does
the rest.
"""

from serving.hosts.direct.background import language_part
from serving.hosts.host import Host, Say
from serving.settings import Settings
from serving.store.opening import open_registry
from serving.supervision.supervisor import Supervisor

REPORTS = "reports"  # folder of the model store with the page about each version


def remove(settings: Settings, host: Host | None, name: str, number: str | None, say: Say) -> None:
    """Remove a version that is not champion, or with None a whole model.

    Args:
        host: the one that runs; None if none does.

    Raises:
        KeyError: no such model or version, now or before.
        ValueError: the version is champion.
        ArchiveError: the registry is damaged.
        LaunchError: the host refuses; the registry has the version no more, and its files are still there.
    """
    registry = open_registry(settings)
    archives = registry.remove(name, number)
    if host:
        rollout = host.rollout(settings, say=say)
        for version in archives:
            rollout.withdraw(name, version)
        if name not in registry.models():  # a language model has a process of its own on the direct host
            Supervisor(settings).stop(language_part(name))
    for version, archive in archives.items():
        registry.files.discard(archive)
        for page in (registry.store / REPORTS).glob(f"{name}-{version}.*"):
            page.unlink(missing_ok=True)
