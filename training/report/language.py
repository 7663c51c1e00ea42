"""The page about a version of a language model: perplexity, tasks, prompts whose answers must stay, speed, lineage."""

from pathlib import Path

import msgspec

from handlers.contract import ModelContract
from serving.documents import write_atomically
from training.figures.template import template
from training.figures.text import figure
from training.language.evaluation.scores import task_table
from training.report.page import FOLDER

TEMPLATE = Path(__file__).with_name("language.html")


def write_language_page(contract: ModelContract, store: Path) -> Path:
    """Write the page of one version into the model store, ``reports/MODEL-VERSION.html``."""
    path = store / FOLDER / f"{contract.name}-{contract.version}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, render_language_page(contract).encode(), private=True)  # it has prompts of the user
    return path


def render_language_page(contract: ModelContract) -> str:
    """Render the page as HTML."""
    evaluation = contract.evaluation
    return template(TEMPLATE, {"number": figure}).render(
        contract=contract,
        evaluation=evaluation,
        perplexities=evaluation.compared("as served"),
        tasks=task_table(evaluation.tasks),
        asked=[
            prompt.request.get("prompt") or prompt.request["messages"][-1]["content"] for prompt in evaluation.prompts
        ],
        lineage=msgspec.to_builtins(contract.lineage),
    )
