"""What tasks and prompts say of a version that is being made, beside the network that it came from and the champion."""

from collections.abc import Callable, Sequence

from handlers.contract import ModelContract
from handlers.contract.task_results import RegressionPrompt, TaskResult
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import ChatTemplate
from serving.registry import ArchiveError, Registry
from training.language.evaluation.opened import open_version
from training.language.evaluation.regressions import answered, changed, lost_adapters
from training.language.evaluation.scores import DocumentScores, results_of, worse
from training.language.evaluation.tasks import Tasks, run_tasks
from training.language.evaluation.text_models import EngineTextModel, TextModel

FLOAT32, TUNED, SERVED, CHAMPION = "float32", "tuned", "served", "champion"  # models, as a contract names them


class Evidence:
    """Collects the scores of each model, and why the version may not replace the champion by itself.

    Args:
        tasks: None for none.
        prompts: those whose answers must stay; the champion's own where None.
        step: receives what is being done.
    """

    def __init__(
        self,
        tasks: Tasks | None,
        prompts: Sequence[RegressionPrompt] | None,
        step: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.prompts: tuple[RegressionPrompt, ...] = ()
        self._tasks, self._asked, self._step = tasks, prompts, step
        self._scores: dict[str, list[DocumentScores]] = {}

    def run(self, name: str, model: Callable[[], TextModel]) -> None:
        """Run the tasks on a model, where there are any.

        Args:
            name: as ``TaskResult`` has it.
            model: makes it.
        """
        if self._tasks:
            self._step(f"running {len(self._tasks.names)} tasks: {name}")
            self._scores[name] = run_tasks(self._tasks, model())

    def ask(
        self, registry: Registry, draft: ModelContract, engine: ContinuousBatching, template: ChatTemplate
    ) -> list[str]:
        """Run the tasks on the new version and on the champion, and ask the new one the prompts.

        Returns:
            Why it may not replace the champion by itself, a sentence each.
        """
        self.run(SERVED, lambda: EngineTextModel(engine, template))
        champion = _champion(registry, draft.name)
        former = champion.evaluation.prompts if champion else ()
        asked = former if self._asked is None else self._asked
        if asked:
            self._step(f"asking it {len(asked)} prompts whose answers must stay")
        self.prompts = answered(asked, draft, engine, template)
        objections = changed(former, self.prompts)
        objections += lost_adapters(champion, draft) if champion else []
        if champion and self._tasks:
            with open_version(registry, draft.name, champion.version) as opened:
                self.run(CHAMPION, lambda: opened.model)
                names = (f"the champion {champion.version}", "this version")
                objections += worse(self._scores[CHAMPION], self._scores[SERVED], names)
        return objections

    @property
    def results(self) -> tuple[TaskResult, ...]:
        """Each metric of each task by every model."""
        return results_of(self._scores, self._tasks.sha256) if self._tasks else ()


def _champion(registry: Registry, name: str) -> ModelContract | None:
    """Return the champion's contract; None where there is no champion, or its archive cannot be read any more."""
    try:
        return registry.champion_contract(name)
    except ArchiveError:
        return None
