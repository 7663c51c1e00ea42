"""A new version enters the registry, and becomes champion if it is to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from handlers.contract import ModelContract
from serving.registry import Registry, Version, file_sha256, make_champion, next_number, write_atomically
from training.criteria import PRIMARY, is_better

Promote = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Result:
    """What came of a training."""

    contract: ModelContract
    archive: Path
    state: str
    why: str  # the version has that state
    report: Path | None = None  # the page about it


def register(
    draft: ModelContract,
    pack: Callable[[ModelContract], bytes],
    registry: Registry,
    promote: Promote,
    replaces: str | None = None,
) -> Result:
    """Write a version's archive and its row in the registry.

    Args:
        draft: the contract without a version.
        pack: makes the archive of the whole contract.
        registry: of the model store.
        promote: whether the version becomes champion: ``auto`` if it is at least as good as the champion.
        replaces: the champion that ``auto`` replaces whatever its metric, if it still is champion.
    """
    name = draft.name
    with registry.change() as models:
        versions = models.setdefault(name, {})
        number = next_number(versions)
        contract = msgspec.structs.replace(draft, version=number)
        path = registry.store / f"{name}-{number}.mar"
        write_atomically(path, pack(contract))
        champion = next((number for number, version in versions.items() if version.state == "champion"), None)
        if replaces is not None and promote == "auto":
            wins, why = champion == replaces, f"made to replace {replaces}; the champion was {champion or 'none'}"
        else:
            wins, why = _judge(contract, versions[champion] if champion else None, promote)
        created = contract.lineage["created"]
        versions[number] = Version(path.name, file_sha256(path), "challenger", created, contract.evaluation)
        if wins:
            make_champion(models, name, number)
        return Result(contract, path, versions[number].state, why)


def _judge(contract: ModelContract, champion: Version | None, promote: Promote) -> tuple[bool, str]:
    if promote != "auto":
        return promote == "always", f"as asked: promote {promote}"
    if champion is None:
        return True, "the first version"
    if any("held_out_since" in evaluation for evaluation in (contract.evaluation, champion.evaluation)):
        by_hand = f"python -m serving promote {contract.name} {contract.version}"
        return (
            False,
            f"measured on other rows than the champion, so that nothing tells which is better: see `{by_hand}`",
        )
    name = PRIMARY[contract.task][0]
    new, old = contract.evaluation["metrics"][name], champion.evaluation["metrics"][name]
    wins = is_better(contract.task, contract.evaluation, champion.evaluation)
    return wins, f"{name} {new:.4f} {'is at least as good as' if wins else 'is worse than'} the champion's {old:.4f}"
