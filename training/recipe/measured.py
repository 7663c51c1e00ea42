"""The part of a model that measures need: a recipe has it, and so has an imported model without one."""

from collections.abc import Mapping
from typing import Protocol

from handlers.contract import Array, Task
from training.recipe import Data
from training.statistics.decisive import Scoring


class Measured(Protocol):
    """A model whose answers are compared with a truth; ``training.recipe.Recipe`` explains the members."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def task(self) -> Task:
        """Task of the model."""

    @property
    def scoring(self) -> Scoring:
        """Metrics of the answers."""

    @property
    def parity_rows(self) -> int:
        """Most rows that graphs are compared on."""

    def batch(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Stack some rows of a split as the handler does for the graph."""

    def baselines(self, data: Data) -> Mapping[str, Array]:
        """Predict ``data.test`` by baselines that the model must beat, by name."""

    def metrics(self, output: Array, target: Array) -> dict[str, float]:
        """Measure metrics of this model's own, beside those of its task."""
