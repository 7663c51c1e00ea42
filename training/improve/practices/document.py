"""``docs/practices.md``: what each practice of applied deep learning is worth here, from the figures of its command.

Every number is read from ``docs/practices/COMMAND-MODEL.json``, which the command wrote; each of these files is an
object with ``command``, ``model``, ``seconds``, ``machine`` and ``rows``, a list of flat objects; ``run`` is the
command line where it is not that of ``training``.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from serving import documents
from serving.documents import write_atomically
from training.improve.practices.practice import Practice
from training.improve.practices.rows import PRACTICES

RESULTS = "practices"  # folder beside the page
# Which module renders a command's result, and under which heading.
SECTIONS: dict[str, tuple[str, str]] = {
    "report": ("training.report.champion", "Evaluation and calibration"),
    "ablate": ("training.improve.ablate", "Training practices, one at a time"),
    "search": ("training.improve.search_report", "Hyperparameter search"),
    "learning-curve": ("training.improve.learning_curve", "What pretraining is worth"),
    "optimize": ("training.improve.optimize", "Compression"),
    "export": ("training.improve.formats", "Export"),
    "drift": ("training.improve.practices.drift_result", "Alarms of drift"),
    "replay": ("training.improve.practices.replay_result", "The closed loop"),
}
Results = Mapping[str, Mapping[str, Any]]  # by the file's name without suffix
HEAD = Path(__file__).with_name("head.md")  # of the page, before the figures


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The results in a folder, by file name without suffix.

    Raises:
        ValueError: a file is no result, or of a command that has no section here; names it.
    """
    results = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = msgspec.json.decode(path.read_bytes())
            known = result["command"] in SECTIONS and isinstance(result["model"], str)
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no result of a command: {error!r}") from error
        if not known:
            raise ValueError(f"{path}: the command {result['command']!r} has no section in {Path(__file__).name}")
        results[path.stem] = result
    return results


def write_result(result: Mapping[str, Any], folder: Path) -> Path:
    """Write a command's result where this page finds it; returns the path."""
    return write_json(result, folder / f"{result['command']}-{result['model']}.json")


def write_json(result: Mapping[str, Any], path: Path) -> Path:
    """Write a result under a name of its own; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    documents.write(path, result, dict[str, Any], private=False)
    return path


def write(docs: Path) -> Path:
    """Write the page of a folder of documentation; returns its path.

    Raises:
        ValueError: a file among the results is none.
    """
    page = docs / "practices.md"
    write_atomically(page, rendered(docs / RESULTS).encode())
    return page


def rendered(folder: Path) -> str:
    """The page from a folder of results.

    Raises:
        ValueError: a file in it is no result.
    """
    return render(read(folder), sorted(path.name for path in folder.glob("*.png")))


def render(results: Results, pictures: Sequence[str] = (), practices: Sequence[Practice] = PRACTICES) -> str:
    """The page.

    Args:
        results: as read.
        pictures: file names in the folder of the results; each is shown in the section of its result.
        practices: rows of the table at the top; one whose result is not there yet is left out.
    """
    sections = [_section(command, results, pictures) for command in SECTIONS]
    return "\n".join([HEAD.read_text(), _table(results, practices), *filter(None, sections)])


def _table(results: Results, practices: Sequence[Practice]) -> str:
    lines = ["| practice | command | code | effect here |", "| --- | --- | --- | --- |"]
    for one in practices:
        if one.result and one.result not in results:
            continue
        effect = one.effect(results[one.result]) if one.result and one.effect else one.note
        code = ", ".join(f"[{Path(path).name}](../{path})" for path in one.code)
        lines.append(f"| {one.name} | {one.command} | {code} | {effect} |")
    return "\n".join(lines) + "\n"


def _section(command: str, results: Results, pictures: Sequence[str]) -> str:
    module, heading = SECTIONS[command]
    parts = []
    for stem, result in results.items():
        if result["command"] != command:
            continue
        table = importlib.import_module(module).markdown(result).strip()
        shown = "".join(
            f"\n![{heading}: {result['model']}]({RESULTS}/{name})\n" for name in pictures if _of(name, stem)
        )
        run = result.get("run", f"python -m training {command} {result['model']}")
        took = f"`{run}`, {_duration(result['seconds'])} on {result['machine']}."
        parts.append(f"### `{result['model']}`\n\n{took}\n\n{table}\n{shown}")
    return f"## {heading}\n\n" + "\n".join(parts) if parts else ""


def _of(picture: str, stem: str) -> bool:
    return picture == f"{stem}.png"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
