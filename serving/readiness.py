"""Whether models answer: the only readiness is a real prediction that agrees with the contract's example."""

import time
import zipfile
from dataclasses import dataclass

import httpx

from handlers.capture import SWITCH
from handlers.contract import ModelContract
from handlers.handler import same_answer
from serving.registry import ArchiveError, Registry, Version


@dataclass(frozen=True)
class Readiness:
    """One served model's state.

    Attributes:
        ready: it gave the expected answer.
        detail: what it answered instead, or why it could not be asked.
        milliseconds: that the answer took.
    """

    name: str
    version: str
    ready: bool
    detail: str
    milliseconds: float


def read_contract(registry: Registry, name: str) -> ModelContract:
    """The contract in the champion's archive.

    Raises:
        ArchiveError: there is no champion, or its archive is missing, altered or without a contract.
    """
    champions = registry.champions()
    if name not in champions:
        raise ArchiveError(f"{name} has no champion: run `make train MODEL={name}`")
    return contract_of(registry, champions[name][1])


def contract_of(registry: Registry, version: Version) -> ModelContract:
    """The contract in a version's archive.

    Raises:
        ArchiveError: the archive is missing, altered or without a contract.
    """
    path = registry.verify(version)
    try:
        with zipfile.ZipFile(path) as archive:
            return ModelContract.from_json(archive.read("contract.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ArchiveError(f"{path} has no contract: {error}") from error


def ask(client: httpx.Client, url: str, contract: ModelContract) -> Readiness:
    """Send a contract's example to its version of the model and compare the answer."""
    started = time.perf_counter()
    path = f"{url}/predictions/{contract.name}/{contract.version}"
    try:
        response = client.post(path, json=contract.example.request, headers={SWITCH: "off"})
        good = response.status_code == 200 and same_answer(response.json(), contract.example.response)
        detail = "" if good else f"{response.status_code}: {' '.join(response.text.split())[:200]}"
    except (httpx.HTTPError, ValueError) as error:
        good, detail = False, f"{type(error).__name__}: {error}"
    return Readiness(contract.name, contract.version, good, detail, 1000 * (time.perf_counter() - started))


def ask_all(registry: Registry, url: str) -> list[Readiness]:
    """Ask every champion of the registry."""
    with httpx.Client(timeout=10, trust_env=False) as client:  # a proxy would not come back to this machine
        return [_ask_or_refuse(client, registry, url, name) for name in sorted(registry.champions())]


def _ask_or_refuse(client: httpx.Client, registry: Registry, url: str, name: str) -> Readiness:
    try:
        return ask(client, url, read_contract(registry, name))
    except ArchiveError as error:
        return Readiness(name, registry.champions()[name][0], False, f"refused: {error}", 0.0)
