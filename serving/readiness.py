"""Whether models answer: the only readiness is a real prediction that agrees with the contract's example."""

import time
import zipfile
from dataclasses import dataclass

import httpx

from handlers.contract import ModelContract
from handlers.handler import same_answer
from handlers.observe.capture import SWITCH
from serving.registry import ArchiveError, Registry, Version

LONGEST = 10.0  # s that an answer to an example is waited for at most
_ALIVE = "v1/models"  # what a language model's worker answers between two tokens, without generating any


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


def ask(client: httpx.Client, url: str, contract: ModelContract, patience: float = LONGEST) -> Readiness:
    """Send a contract's example to its version of the model and compare the answer.

    Args:
        client: of httpx.
        url: of the inference port.
        contract: of the version.
        patience: s that the answer is waited for.
    """
    started = time.perf_counter()
    path = f"{url}/predictions/{contract.name}/{contract.version}"
    try:
        response = client.post(path, json=contract.example.request, headers={SWITCH: "off"}, timeout=patience)
        good = response.status_code == 200 and same_answer(response.json(), contract.example.response)
        detail = "" if good else f"{response.status_code}: {' '.join(response.text.split())[:200]}"
    except httpx.ReadTimeout:
        good, detail = False, f"no answer within {patience:.1f} s"
    except (httpx.HTTPError, ValueError) as error:
        good, detail = False, f"{type(error).__name__}: {error}"
    return Readiness(contract.name, contract.version, good, detail, 1000 * (time.perf_counter() - started))


def ask_alive(client: httpx.Client, url: str, contract: ModelContract, patience: float) -> str:
    """Ask a language model's worker for something that costs no token; returns why it is not alive, else nothing."""
    path = f"{url}/predictions/{contract.name}/{contract.version}/{_ALIVE}"
    try:
        response = client.post(path, headers={SWITCH: "off"}, timeout=patience)
    except httpx.ReadTimeout:
        return f"no answer within {patience:.1f} s"
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return "" if response.status_code == 200 else f"{response.status_code}: {' '.join(response.text.split())[:200]}"
