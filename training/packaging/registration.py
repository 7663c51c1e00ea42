"""Registration of a new version, and its promotion to champion."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from handlers.contract import ModelContract
from handlers.contract.model_card import Evaluation
from serving.documents import write_atomically
from serving.hosts.trial import check_loads
from serving.registry import ArchiveError, Note, Registry, Version, champion_of, file_sha256, make_champion, next_number
from training.packaging import result_file
from training.statistics.criteria import criterion_of, deciding, is_better, mean_ratio

Promote = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of a training.

    Attributes:
        preset: name of the hyperparameters; None for the default.
        promote: whether the version becomes champion: ``auto`` if it is at least as good as the champion.
        calibrate: whether the graph divides logits by a temperature, also where the preset does not ask for it.
        feedback: file of labelled rows that are learned as well; see ``training.feedback``.
        hold_out: share of these rows, the newest, that the version is measured on.
        instructions: file of conversations that a language model is fine-tuned on; see
            ``training.language.instructions``.
        tasks: file or folder of lm-eval tasks that a language model runs.
        prompts: file of prompts whose answers a language model must keep; its champion's where None.
        result_file: file for the version in JSON, written as soon as the version is registered.
    """

    preset: str | None = None
    promote: Promote = "auto"
    calibrate: bool = False
    feedback: Path | None = None
    hold_out: float = 0.1
    instructions: Path | None = None
    tasks: Path | None = None
    prompts: Path | None = None
    result_file: Path | None = None


DEFAULTS = TrainOptions()


@dataclass(frozen=True)
class Result:
    """The result of a training."""

    contract: ModelContract
    archive: Path
    state: str
    why: str  # reason of the state
    report: Path | None = None  # page about the version


def register(
    draft: ModelContract,
    pack: Callable[[ModelContract], bytes],
    registry: Registry,
    promote: Promote,
    replaces: str | None = None,
    check: Callable[[Path], None] = check_loads,
    objections: Sequence[str] = (),
) -> Result:
    """Write a version's archive and its row in the registry.

    Args:
        draft: the contract without a version.
        pack: function that packs the archive of the whole contract.
        promote: whether the version becomes champion: ``auto`` if it is at least as good as the champion.
        replaces: the champion that ``auto`` replaces whatever its metric, if it still is champion.
        check: loads the archive of a version before it becomes champion.
        objections: why ``auto`` does not make it champion, whatever its metric; a sentence each.

    Raises:
        ArchiveError: the version would be champion, and cannot be loaded; nothing is registered.
    """
    name = draft.name
    note = Note("")
    with registry.change(note) as models:
        versions = models.setdefault(name, {})
        number = next_number(versions, registry.damaged().get(name, {}), registry.removed(name))
        contract = msgspec.structs.replace(draft, version=number)
        path = registry.store / f"{name}-{number}.mar"
        write_atomically(path, pack(contract), private=True)
        champion = champion_of(versions)
        if replaces is not None and promote == "auto":
            former = champion.number if champion else "none"
            wins, why = former == replaces, f"made to replace {replaces}; the champion was {former}"
        elif objections and promote == "auto":
            wins, why = False, f"{'. '.join(objections)}: see `marloop promote {name} {number}`"
        else:
            wins, why = _judge(contract, champion.version if champion else None, promote)
        trust = registry.files.trust
        if wins and trust.public_key and not trust.signing_key:
            way = f"`marloop sign {name} {number}`, then `marloop promote {name} {number}`"
            wins, why = False, f"an archive must be signed before it is served: {way}"
        if wins:
            try:
                check(path)
            except ArchiveError:
                path.unlink()
                raise
        if champion:  # the first version of a model replaces none
            note.by, note.why = "training", why
        created = contract.lineage.created
        versions[number] = Version(path.name, file_sha256(path), "challenger", created, _document(contract))
        if wins:
            make_champion(models, name, number)
        return Result(contract, path, versions[number].state, why)


def _document(contract: ModelContract) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(contract.evaluation)
    return document


def _judge(contract: ModelContract, champion: Version | None, promote: Promote) -> tuple[bool, str]:
    if promote != "auto":
        return promote == "always", f"as asked: promote {promote}"
    by_hand = f"marloop promote {contract.name} {contract.version}"
    if contract.lineage.imported and not contract.evaluation.metrics:  # no truth came with it
        if champion is None:
            return True, "the first version; nothing was measured"
        compares = f"`marloop challenge {contract.name} {contract.version}` compares them, `{by_hand}` does not"
        return False, f"nothing was measured, so that nothing tells whether it is better: {compares}"
    name = criterion_of(contract.task, contract.evaluation).name
    new = deciding(contract.task, contract.evaluation)
    if new is None:
        reason = contract.evaluation.unmeasured.get(name, "it is no finite number")
        return False, f"{name} could not be measured, as {reason}: nothing tells whether it is good, see `{by_hand}`"
    if champion is None:
        return True, "the first version"
    former = champion.measured
    if contract.evaluation.held_out_since or former.held_out_since:
        return (
            False,
            f"measured on other rows than the champion, so that nothing tells which is better: see `{by_hand}`",
        )
    old = deciding(contract.task, former)
    if old is None:
        return False, f"the champion's {name} is not known, so that nothing tells which is better: see `{by_hand}`"
    if contract.has_targets:
        return _judge_targets(contract, former, f"see `{by_hand}`")
    wins = is_better(contract.task, contract.evaluation, former)
    return wins, f"{name} {new:.4f} {'is at least as good as' if wins else 'is worse than'} the champion's {old:.4f}"


def _judge_targets(contract: ModelContract, former: Evaluation, way_out: str) -> tuple[bool, str]:
    name, ratio = criterion_of(contract.task, contract.evaluation).name, mean_ratio(contract.evaluation, former)
    if ratio is None:
        return False, f"{name} is not known of every target, so that nothing tells which is better: {way_out}"
    verdict = "at least as good" if ratio <= 1 else "worse"
    targets = len(contract.outputs)
    return ratio <= 1, f"{name} is {ratio:.4f} times the champion's in the mean over {targets} targets: {verdict}"


def result_document(result: Result) -> result_file.Trained:
    """Return a new version for a program to read."""
    contract = result.contract
    return result_file.Trained(
        contract.name,
        contract.version,
        str(result.archive),
        result.state,
        result.why,
        contract.evaluation.held_out_since,
    )
