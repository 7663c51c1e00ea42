"""The policy of learning from conversations."""

from pathlib import Path
from typing import Annotated, ClassVar

from handlers.observe.settings import MOST, EnvironmentSettings, says, variables
from serving.settings import ROOT


class ConversationPolicy(EnvironmentSettings, frozen=True, rename=variables("CONVERSATIONS_")):
    """Which conversations a language model learns, when, and how the new version is judged."""

    root: ClassVar[Path] = ROOT
    thumbs_approve: Annotated[
        bool,
        says(
            "on: a thumb up approves a conversation that nobody reviewed, unless its answer was cut off. off: only "
            "`marloop conversations approve` does."
        ),
    ] = False
    new: Annotated[
        int,
        says(
            "How many conversations must be approved since a language model's last retraining, before the monitor "
            "retrains it.",
            ge=20,
            le=MOST,
        ),
    ] = 100
    holdout: Annotated[
        float,
        says(
            "Share of the approved conversations that are never learned: the new version is judged on them. Those "
            "with the same first question stay together. A smaller share later lets some of them be learned.",
            ge=0.05,
            le=0.9,
        ),
    ] = 0.2
    tasks: Annotated[
        Path | None,
        says("File or folder of lm-eval tasks on which a new version of a language model is judged too."),
    ] = None
    thumbs: Annotated[
        int,
        says(
            "How many thumbs the new and the former version of a language model need, before they tell that the new "
            "one is worse.",
            ge=10,
            le=MOST,
        ),
    ] = 50
