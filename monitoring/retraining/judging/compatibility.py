"""The comparison of two contracts: whether a client of one version can go on with the other."""

from collections.abc import Iterator

from handlers.contract import ModelContract, TensorSpec
from training.statistics.pair import Pair


def violations(contracts: Pair[ModelContract]) -> list[str]:
    """Return why a client of the champion could not go on with the challenger, each reason a sentence.

    A challenger may accept more than the champion, a wider range or more categories, but nothing less. It must answer
    in the same form: same outputs, same labels in the same order, since clients read probabilities by position. A
    changed unit counts too: the same number would mean something else.
    """
    return [*_heads(contracts), *_inputs(contracts), *_outputs(contracts)]


def _heads(contracts: Pair[ModelContract]) -> Iterator[str]:
    champion, challenger = contracts
    if champion.name != challenger.name:
        yield f"it is a version of {challenger.name}, not of {champion.name}"
    if champion.task != challenger.task:
        yield f"its task is {challenger.task}, not {champion.task}"


def _inputs(contracts: Pair[ModelContract]) -> Iterator[str]:
    old, new = contracts.map(lambda contract: {spec.name: spec for spec in contract.inputs})
    for name in sorted(old.keys() - new.keys()):
        yield f"input {name} is gone: requests that hold it would be refused"
    for name in sorted(name for name in new.keys() - old.keys() if not new[name].nullable):
        yield f"input {name} is new: requests without it would be refused"
    for name, spec in old.items():
        if name in new:
            yield from _tensor(f"input {name}", spec, new[name])
            yield from _domain(f"input {name}", spec, new[name])


def _outputs(contracts: Pair[ModelContract]) -> Iterator[str]:
    champion, challenger = contracts
    names = [[spec.name for spec in contract.outputs] for contract in contracts]
    if names[0] != names[1]:
        yield f"its outputs are {', '.join(names[1])}, not {', '.join(names[0])}"
    else:
        for before, after in zip(champion.outputs, challenger.outputs, strict=True):
            yield from _tensor(f"output {before.name}", before, after)
    if champion.labels != challenger.labels:
        yield f"its labels are {_listed(challenger.labels)}, not {_listed(champion.labels)}, in this order"


def _tensor(what: str, before: TensorSpec, after: TensorSpec) -> Iterator[str]:
    if before.datatype != after.datatype:
        yield f"{what} has datatype {after.datatype}, not {before.datatype}"
    if before.shape != after.shape:
        yield f"{what} has shape {list(after.shape)}, not {list(before.shape)}"
    if before.unit != after.unit:
        yield f"{what} has unit {after.unit or 'none'}, not {before.unit or 'none'}"


def _domain(what: str, before: TensorSpec, after: TensorSpec) -> Iterator[str]:
    if after.range and not (before.range and after.range[0] <= before.range[0] and before.range[1] <= after.range[1]):
        allowed = "any value" if before.range is None else _range(before.range)
        yield f"{what} accepts {_range(after.range)}, not all of what the champion accepts, {allowed}"
    if before.timestamp and not after.timestamp:
        yield f"{what} takes no text, as the champion's times are"
    if before.nullable and not after.nullable:
        yield f"{what} needs a value, which requests to the champion may lack"
    for refused in sorted(_refused(after) - _refused(before)):
        yield f"{what} refuses {refused}, which the champion takes"
    missing = [category for category in before.categories if category not in after.categories]
    if after.categories and not before.categories:
        yield f"{what} accepts {len(after.categories)} categories, the champion any text"
    elif after.categories and missing:
        yield f"{what} lacks {len(missing)} of the champion's {len(before.categories)} categories: {_listed(missing)}"


def _refused(spec: TensorSpec) -> set[str]:
    sizes = {"pictures of other sizes"} if spec.picture and spec.picture.resize == "none" else set()
    return sizes | ({"transparent pictures"} if spec.background == "refuse" else set())


def _range(limits: tuple[float, float]) -> str:
    return "{:g} to {:g}".format(*limits)


def _listed(names: tuple[str, ...] | list[str], most: int = 10) -> str:
    text = ", ".join(names[:most]) or "none"
    return text if len(names) <= most else f"{text} and {len(names) - most} more"
