"""The judge: it decides from both archives and the newest labelled rows whether a challenger replaces the champion."""

import math
from collections.abc import Sequence

from scipy.stats import binomtest

from handlers.contract import ModelContract
from monitoring.retraining.judging.archived import Archived
from monitoring.retraining.judging.compatibility import violations
from monitoring.retraining.judging.latency import compare_latency
from monitoring.retraining.judging.losses import FEWEST_ROWS, Evidence, gather, metric_of
from monitoring.retraining.policy import JudgePolicy
from monitoring.retraining.result import Check, Verdict
from monitoring.store.records import Labelled, Prediction
from training.packaging.export import parity_tolerance
from training.statistics.criteria import ERRORS, Criterion, criterion_of
from training.statistics.pair import Pair
from training.statistics.paired import Gain, Slice, compare_slices, gain, worst

UNLABELLED = "no labelled row tells which version is better, so that the answers to recent requests decide"


def judge(versions: Pair[Archived], held_out: Sequence[Labelled], policy: JudgePolicy) -> Verdict:
    """Judge a challenger on rows that it did not learn from.

    Args:
        held_out: labelled rows, in any order, answered by any version: both versions answer them anew.
    """
    contract, checks = versions.champion.contract, _sound(versions)
    if not checks[0].passed:
        return _verdict(contract, checks)
    evidence = gather(versions, held_out)
    checks += [_rows(evidence, policy), _answers(evidence)]
    rows = len(evidence.predictions)
    if not all(check.passed for check in checks[-2:]):
        return _verdict(contract, checks, rows)
    measured = gain(evidence.losses, policy.confidence)
    checks += [
        _error(contract, evidence, measured, policy),
        *([_targets(contract, evidence, policy)] if evidence.targets else []),
        _slices(contract, evidence, policy),
        *([_classes(evidence, policy)] if contract.labels else []),
        _latency(versions, evidence.predictions, policy),
    ]
    return _verdict(contract, checks, rows, measured, evidence.by)


def admit(versions: Pair[Archived]) -> Verdict:
    """Judge a challenger where no row is labelled: by contract, parity and example, which say nothing of its error."""
    return _admitted(_sound(versions), UNLABELLED)


def admit_by_contract(contracts: Pair[ModelContract], code: str) -> Verdict:
    """Judge a challenger whose archive is not opened here, by the contracts alone.

    Args:
        code: which version holds code, and which.
    """
    checks = [_contract(contracts), _parity(contracts.challenger)]
    return _admitted(checks, f"{code}, so that the answers to recent requests decide")


def _admitted(checks: Sequence[Check], otherwise: str) -> Verdict:
    against = [check.detail for check in checks if not check.passed]
    return Verdict(not against, ". ".join(against) or otherwise, tuple(checks), "", None, None, None, None, 0)


def _sound(versions: Pair[Archived]) -> list[Check]:
    """Check what needs no rows."""
    challenger = versions.challenger
    return [
        _contract(versions.map(lambda version: version.contract)),
        _parity(challenger.contract),
        _example(challenger),
    ]


def _contract(contracts: Pair[ModelContract]) -> Check:
    champion, challenger = contracts
    broken_promises = violations(contracts)
    compatible = f"a client of {champion.version} can go on with {challenger.version}"
    broken = f"a client of {champion.version} could not go on with {challenger.version}: {'; '.join(broken_promises)}"
    return Check("contract", not broken_promises, broken if broken_promises else compatible)


def _parity(contract: ModelContract) -> Check:
    lineage = contract.lineage
    if not lineage.parity:
        return Check("parity", False, "its lineage does not tell that its graphs agree with the module: train it again")
    limit = parity_tolerance(lineage.variant.converted if lineage.variant else "")
    differences = lineage.differences
    words = ", ".join(f"{name} {value:.2g}" for name, value in differences.items())
    allowed = "any, since it computes with smaller numbers" if limit == math.inf else f"{limit:g}"
    passed = bool(differences) and all(value <= limit for value in differences.values())
    return Check("parity", passed, f"largest difference of its graphs from the module: {words}; allowed: {allowed}")


def _example(challenger: Archived) -> Check:
    try:
        challenger.check_example()
    except RuntimeError as error:
        return Check("example", False, f"it does not answer its own example as its contract says: {error}")
    return Check("example", True, "it answers its own example as its contract says")


def _rows(evidence: Evidence, policy: JudgePolicy) -> Check:
    rows = len(evidence.predictions)
    words = f"there are {rows:,} labelled rows that were held out; {policy.rows:,} are needed"
    if evidence.unfit:
        words += f"; {len(evidence.unfit):,} more do not fit the champion, the first: {evidence.unfit[0]}"
    return Check("rows", rows >= policy.rows, words)


def _answers(evidence: Evidence) -> Check:
    if not evidence.refused:
        return Check("answers", True, "it answers every row that the champion answers")
    count = f"{len(evidence.refused):,} of {len(evidence.predictions):,} rows that the champion answers"
    return Check("answers", False, f"it refuses {count}, the first: {evidence.refused[0]}")


def _error(contract: ModelContract, evidence: Evidence, measured: Gain, policy: JudgePolicy) -> Check:
    rows = len(evidence.predictions)
    words = (
        f"{metric_of(contract, evidence.by)} {_figures(contract, measured, evidence.by)} on {rows:,} rows: the error "
        f"is {abs(measured.value):.1%} {'lower' if measured.value >= 0 else 'higher'}; "
        f"with {policy.confidence:.0%} confidence the gain is over {measured.low:.1%}, "
        f"and over {policy.margin:.1%} is needed"
    )
    return Check("error", measured.low > policy.margin, words)


def _targets(contract: ModelContract, evidence: Evidence, policy: JudgePolicy) -> Check:
    """Check that no target is worse by more than the tolerance of a slice, beyond chance in all of them together."""
    confidence = 1 - (1 - policy.confidence) / len(evidence.targets)
    gains = {name: gain(losses, confidence) for name, losses in evidence.targets.items()}
    units = {spec.name: spec.unit for spec in contract.outputs}
    words = {
        name: f"{name} {own.challenger:.4g} against the champion's {own.champion:.4g} {units[name]}".rstrip()
        for name, own in gains.items()
    }
    worse = [words[name] for name, own in gains.items() if own.high < -policy.slice_tolerance]
    beyond = f"it is worse by more than {policy.slice_tolerance:.0%} beyond chance in"
    if worse:
        return Check("targets", False, f"{beyond} {len(worse)} of {len(gains)} targets: {'; '.join(worse)}")
    return Check("targets", True, f"{beyond} none of {len(gains)} targets: {'; '.join(words.values())}")


def _slices(contract: ModelContract, evidence: Evidence, policy: JudgePolicy) -> Check:
    by = evidence.by if evidence.by.metric in (*ERRORS, "accuracy") else Criterion("accuracy")
    compared = compare_slices(evidence.losses, evidence.slices, policy.slice_tolerance, policy.confidence)
    if not compared:
        return Check("slices", True, "there is no slice of enough rows to look at")
    worse = [part for part in compared if part.worse]
    beyond = f"it is worse by more than {policy.slice_tolerance:.0%} beyond chance in"
    if not worse:
        return Check(
            "slices", True, f"{beyond} none of {len(compared)} slices; worst: {_slice(contract, worst(compared), by)}"
        )
    words = "; ".join(_slice(contract, part, by) for part in worse)
    return Check("slices", False, f"{beyond} {len(worse)} of {len(compared)} slices: {words}")


def _classes(evidence: Evidence, policy: JudgePolicy) -> Check:
    """Check that each class has enough rows, and that the challenger still recognises classes too rare for a slice.

    The test is the exact one of McNemar (1947), on the rows that one version alone gets right.
    """
    few = {label: int(inside.sum()) for label, inside in evidence.classes.items() if inside.sum() < policy.class_rows}
    if few:
        listed = ", ".join(f"{rows} of {label}" for label, rows in few.items())
        needed = f"{policy.class_rows} of each class are needed to see whether it is still recognised"
        return Check("classes", False, f"the held-out rows are {listed}; {needed}")
    wrong = [losses > 0 for losses in (evidence.losses.champion, evidence.losses.challenger)]
    worse = []
    for label, inside in evidence.classes.items():
        lost, won = int((inside & ~wrong[0] & wrong[1]).sum()), int((inside & wrong[0] & ~wrong[1]).sum())
        chance = binomtest(lost, lost + won, 0.5, alternative="greater").pvalue if lost else 1.0
        if inside.sum() < FEWEST_ROWS and chance < (1 - policy.confidence) / len(evidence.classes):
            recalls = (1 - losses[inside].mean() for losses in wrong)
            worse.append("recall of {} {:.0%} before, {:.0%} now ({} rows)".format(label, *recalls, inside.sum()))
    if worse:
        return Check("classes", False, f"it is worse beyond chance in rare classes: {'; '.join(worse)}")
    return Check("classes", True, f"each of {len(evidence.classes)} classes has {policy.class_rows} rows or more")


def _latency(versions: Pair[Archived], rows: Sequence[Prediction], policy: JudgePolicy) -> Check:
    latency = compare_latency(versions, rows, policy.latency)
    words = (
        f"one row takes {latency.challenger_ms:.3g} ms, the champion {latency.champion_ms:.3g} ms in turn with it: "
        f"{latency.ratio:.2f} times; at most {policy.latency:g} times is allowed"
    )
    return Check("latency", latency.ratio <= policy.latency, words)


def _verdict(
    contract: ModelContract,
    checks: Sequence[Check],
    rows: int = 0,
    measured: Gain | None = None,
    by: Criterion | None = None,
) -> Verdict:
    by = by or criterion_of(contract.task, contract.evaluation)
    against = [check.detail for check in checks if not check.passed]
    reason = ". ".join(against or [check.detail for check in checks if check.name == "error"])
    champion, challenger = _metrics(by, measured) if measured else (None, None)
    low, high = (measured.low, measured.high) if measured else (None, None)
    return Verdict(not against, reason, tuple(checks), metric_of(contract, by), champion, challenger, low, high, rows)


def _metrics(by: Criterion, measured: Gain | Slice) -> tuple[float, float]:
    """Return the metric of the champion and of the challenger."""
    return (1 - measured.champion, 1 - measured.challenger) if by.more else (measured.champion, measured.challenger)


def _figures(contract: ModelContract, measured: Gain | Slice, by: Criterion) -> str:
    champion, challenger = _metrics(by, measured)
    if by.more:
        return f"{challenger:.2%} against the champion's {champion:.2%}"
    unit = contract.outputs[0].unit if contract.task == "regression" and not contract.has_targets else ""
    return f"{challenger:.4g} against the champion's {champion:.4g} {unit}".rstrip()


def _slice(contract: ModelContract, part: Slice, by: Criterion) -> str:
    return f"{part.name} {_figures(contract, part, by)} ({part.rows:,} rows)"
