"""The comparison of a registered version with the champion: by tasks, by held-out conversations, by prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from handlers.contract.task_results import RegressionPrompt, TaskResult
from serving.registry import Registry
from training.language.evaluation.evidence import CHAMPION
from training.language.evaluation.opened import OpenedVersion, open_version
from training.language.evaluation.pairwise import WinRate, answer_logprobs, fits, win_rate
from training.language.evaluation.regressions import answered, changed, lost_adapters
from training.language.evaluation.scores import results_of, worse
from training.language.evaluation.tasks import Tasks, run_tasks
from training.statistics.pair import Pair

CHALLENGER = "challenger"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What two versions are tried on; each part may be absent.

    Attributes:
        conversations: ``role`` and ``content`` of each message, the last by the assistant.
        prompts: those whose answers must stay; the champion's own where None.
        only_fitting: whether conversations that one of both does not take are left out; else they are an error.
    """

    tasks: Tasks | None = None
    conversations: Sequence[Sequence[dict[str, str]]] = ()
    prompts: Sequence[RegressionPrompt] | None = None
    only_fitting: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        better: in what the challenger is better beyond chance, a sentence each.
        worse: in what it is worse, and what it answers otherwise though it must not.
    """

    results: tuple[TaskResult, ...] = ()
    won: WinRate | None = None
    better: list[str] = field(default_factory=list)
    worse: list[str] = field(default_factory=list)

    @property
    def promotes(self) -> bool:
        """Whether the challenger is better in something, and worse in nothing."""
        return bool(self.better) and not self.worse

    @property
    def reason(self) -> str:
        """The reason of the verdict, in sentences."""
        undecided = "it is neither better nor worse beyond chance" + (f": {self.won}" if self.won else "")
        return ". ".join(self.worse or self.better or [undecided])


def compare_versions(
    registry: Registry, name: str, numbers: Pair[str], trial: Trial, step: Callable[[str], None] = lambda text: None
) -> Comparison:
    """Open two versions of a language model, one after the other is ready, and compare them.

    Raises:
        ArchiveError: an archive is missing, altered or incomplete.
        DataError: an engine cannot be used here, or a task or a conversation is of no use.
    """
    with open_version(registry, name, numbers.champion) as old, open_version(registry, name, numbers.challenger) as new:
        versions, better, found = Pair(old, new), [], lost_adapters(old.contract, new.contract)
        results: tuple[TaskResult, ...] = ()
        won: WinRate | None = None
        asked = old.contract.evaluation.prompts if trial.prompts is None else trial.prompts
        if asked:
            step(f"asking both {len(asked)} prompts")
            found += changed(*versions.map(lambda one: answered(asked, one.contract, one.engine, one.template)))
        if trial.tasks:
            step(f"running {len(trial.tasks.names)} tasks on both")
            tasks = trial.tasks
            before, after = versions.map(lambda one: run_tasks(tasks, one.model))
            results = results_of({CHAMPION: before, CHALLENGER: after}, tasks.sha256)
            found += worse(before, after, (old.name, new.name))
            better += worse(after, before, (new.name, old.name))
        if talks := _compared(trial, versions):
            step(f"comparing the answers of {len(talks)} conversations")
            won = win_rate(*versions.map(lambda one: answer_logprobs(one.model, talks)))
            if won.low > 0.5:
                better.append(str(won))
            elif won.high < 0.5:
                found.append(str(won))
    return Comparison(results=results, won=won, better=better, worse=found)


def _compared(trial: Trial, versions: Pair[OpenedVersion]) -> Sequence[Sequence[dict[str, str]]]:
    """Return the conversations that are compared."""
    if not trial.only_fitting:
        return trial.conversations
    return [talk for talk in trial.conversations if all(fits(one.model, talk) for one in versions)]
