"""The text of a new recipe: under 60 lines, as ruff formats it."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 120  # of a line
LONGEST = 59  # lines of a recipe


@dataclass(frozen=True)
class Method:
    """A method of a recipe: its docstring, and what it returns."""

    doc: str
    returns: str


@dataclass(frozen=True)
class Source:
    """A recipe's parts, of which all but strings are Python.

    Attributes:
        about: a line on the model.
        imports: from the project, beside what every recipe imports.
        data: statements that say what the data are.
        labels: of a classification.
        attributes: further lines of the class.
        preset: arguments of ``Hyperparameters``.
    """

    name: str
    about: str
    task: str
    imports: tuple[str, ...]
    data: str
    labels: tuple[str, ...]
    attributes: tuple[str, ...]
    preset: str
    load: Method
    module: Method
    baselines: Method

    def render(self) -> str:
        """Write the recipe."""
        own = ["from handlers.contract import Array", "from training.recipe import Data, Hyperparameters, Recipe"]
        imports = _merged([*own, *self.imports])
        kind = "".join(part.capitalize() for part in self.name.split("_")) + "Recipe"
        labels = [assignment("labels", self.labels, 4)] if self.labels else []
        signatures = {
            "load(self, hp: Hyperparameters, cache: Path) -> Data": self.load,
            "module(self, hp: Hyperparameters, data: Data) -> nn.Module": self.module,
            "baselines(self, data: Data) -> Mapping[str, Array]": self.baselines,
        }
        methods = [
            f'    def {signature}:\n        """{method.doc}"""\n        return {method.returns}\n'
            for signature, method in signatures.items()
        ]
        lines = [
            f'"""{self.about}; written by `marloop new`, to be edited.\n',
            f'make train MODEL={self.name}\n"""\n',
            "from collections.abc import Mapping\nfrom pathlib import Path\nfrom typing import ClassVar\n",
            "from torch import nn\n",
            "\n".join(imports),
            "",
            self.data,
            "\n",
            f"class {kind}(Recipe[Hyperparameters]):",
            f'    """{self.about}."""\n',
            f"    name = {quoted(self.name)}",
            f"    task = {quoted(self.task)}",
            f"    description = {quoted(self.about)}",
            *labels,
            *(f"    {line}" for line in self.attributes),
            "    presets: ClassVar[Mapping[str, Hyperparameters]] = {",
            f'        "default": Hyperparameters({self.preset}),\n    }}\n',
            "\n".join(methods),
            f"\nrecipe = {kind}()\n",
        ]
        return "\n".join(lines)


def _merged(lines: Sequence[str]) -> list[str]:
    """Merge imports of the same module, sorted as ruff sorts them."""
    names: dict[str, set[str]] = {}
    for line in lines:
        module, _, imported = line.removeprefix("from ").partition(" import ")
        names.setdefault(module, set()).update(imported.split(", "))
    return [f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)]


def quoted(text: str) -> str:
    """Return a string literal, in double quotes unless it has such."""
    if '"' in text and "'" not in text:
        return "'" + text.replace("\\", "\\\\") + "'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def tuple_of(items: Iterable[str]) -> str:
    """Return a tuple of strings on one line."""
    texts = [quoted(item) for item in items]
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def assignment(name: str, items: Sequence[str], indent: int = 0) -> str:
    """Assign a tuple of strings to a name, on as few lines as it takes."""
    pad = " " * indent
    line = f"{pad}{name} = {tuple_of(items)}"
    if len(line) <= WIDTH:
        return line
    # A name with blanks stays on its line.
    packed = textwrap.wrap(
        ", ".join(quoted(item).replace(" ", "\0") for item in items) + ",",
        WIDTH - indent - 4,
        break_long_words=False,
        break_on_hyphens=False,
    )
    inner = "\n".join(f"{pad}    {row}" for row in packed).replace("\0", " ")
    return f"{pad}# fmt: off\n{pad}{name} = (\n{inner}\n{pad})\n{pad}# fmt: on"


def comment(text: str) -> list[str]:
    """Return a comment of one line at most."""
    return [f"# {textwrap.shorten(text, WIDTH - 10, placeholder=' …')}"] if text else []
