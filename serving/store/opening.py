"""Opens the registry that the settings name."""

import os
from collections.abc import Mapping
from pathlib import Path

from serving.registry import ArchiveError, Registry
from serving.settings import DatabaseSettings, Settings
from serving.store.shared import mirror
from serving.store.shared.archives import SharedArchives
from serving.store.shared.interface import SharedRegistry
from serving.store.shared.origin import Origin
from serving.store.shared.postgres_registry import PostgresRegistry
from serving.store.shared.s3_objects import Objects
from serving.store.shared.s3_registry import S3Registry
from serving.store.storage import FILE, MARK
from serving.store.trust import Trust

_S3 = "s3://"


def open_registry(settings: Settings, environ: Mapping[str, str] = os.environ) -> Registry:
    """Return the registry, to be read and changed: in the folder, or in the store that several machines share.

    Raises:
        ArchiveError: the settings do not go together, or a package is missing.
    """
    if not settings.store_url:
        if settings.registry == "database":
            raise ArchiveError(
                "MARLOOP_REGISTRY is database, and MARLOOP_MODEL_STORE a folder of this machine: set it to a URL that "
                "all machines reach, s3://bucket/models or file:///mnt/models"
            )
        return open_copy(settings)
    if (settings.model_store / FILE).exists() and not (settings.model_store / MARK).exists():
        raise ArchiveError(
            f"{settings.model_store} is a model store of its own, and would be overwritten by a copy of "
            f"{settings.store_url}: name another folder by MARLOOP_MODEL_STORE; `marloop share` copies what is in it"
        )
    archives = SharedArchives(settings.store_url)
    origin = Origin(archives, _registry(settings, environ), lambda: mirror.last_known(settings))
    return Registry(settings.model_store, origin, _trust(settings))


def open_copy(settings: Settings) -> Registry:
    """Return the registry of the folder of this machine, to be read by what serves: without network or credentials.

    Where the store is shared, ``serving.store.shared.mirror`` keeps the folder up to date.
    """
    return Registry(settings.model_store, trust=_trust(settings))


def open_at(store: str, environ: Mapping[str, str] = os.environ) -> Registry:
    """Return the registry of a folder or URL that a command's option names.

    Raises:
        ArchiveError: as of ``open_registry``, or the settings are invalid.
    """
    try:
        if "://" in store:
            return open_registry(Settings.from_environment({**environ, "MARLOOP_MODEL_STORE": store}), environ)
        settings = Settings.from_environment(environ)
    except ValueError as error:
        raise ArchiveError(str(error)) from error
    if Path(store).resolve() == settings.model_store.resolve():
        return open_registry(settings, environ)
    return Registry(Path(store), trust=_trust(settings))


def _registry(settings: Settings, environ: Mapping[str, str]) -> SharedRegistry:
    url = settings.store_url
    if settings.registry == "database":
        try:
            return PostgresRegistry(DatabaseSettings.from_environment(environ).url, url.rstrip("/"))
        except ValueError as error:
            raise ArchiveError(str(error)) from error
    if not url.startswith(_S3):
        raise ArchiveError(
            f"{url} can hold archives, and no registry that several machines change: set MARLOOP_REGISTRY=database and "
            "DATABASE_URL to a PostgreSQL; a folder of this machine alone is given as a path"
        )
    return S3Registry(Objects(url))


def _trust(settings: Settings) -> Trust:
    return Trust(settings.public_key, settings.signing_key)
