"""``python -m loadtests.bench.language``: the language model side by side with what a user would pick instead.

Peers have environments of their own, made on demand under ``.bench/chat/``, and the same weights. Three rounds take
some ten minutes on two cores, and the machine should have nothing else to do.
"""

import os
import signal
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from loadtests.bench.language import chart, contenders, in_process, model, prompts, report
from loadtests.bench.language.contenders import Contender
from loadtests.bench.language.results import BESIDE, TOGETHER, Results
from loadtests.bench.language.turns import Bench
from loadtests.bench.machine import machine
from serving import command_line, documents
from serving.registry import ArchiveError, Registry
from serving.settings import ROOT, Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console(highlight=False, soft_wrap=True)
PAGE = ROOT / "docs" / "language-model.md"
ROUNDS = 3
ALONE = 3  # prompts that are asked one at a time, each turn


@app.command(help=__doc__)
def bench(
    name: Annotated[str, typer.Option("--model", help="The language model, by its name in the store.")] = "chat",
    only: Annotated[list[str] | None, typer.Option(help="Only this contender; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = ROUNDS,
    page: Annotated[Path, typer.Option(help="Page for the tables; chart and results lie beside it.")] = PAGE,
    again: Annotated[bool, typer.Option("--again", help="Write the page of the results that lie beside it.")] = False,
) -> None:
    """Measure, and write the page."""
    # However it is ended, it stops what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    path = page.with_suffix(".json")
    try:
        results = msgspec.json.decode(path.read_bytes(), type=Results) if again else _measure(name, only, rounds, path)
        report.write(results, page)
        chart.draw(results, page.with_suffix(".png"))
    except (ArchiveError, OSError, ValueError, ModuleNotFoundError) as error:
        console.print("[red]error:[/red]", end=" ")
        console.print(str(error), markup=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started is stopped")
        raise typer.Exit(130) from None
    console.print(report.markdown(results), markup=False)
    console.print(f"written to {page} and {path}")


def _measure(name: str, only: list[str] | None, rounds: int, path: Path) -> Results:
    chosen = _chosen(set(only or []))
    registry = Registry(Settings.from_environment(os.environ).model_store)
    with tempfile.TemporaryDirectory(prefix="marloop-chat-") as folder:
        unpacked = model.unpack(registry, name, Path(folder))
        results = Results(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            rounds=rounds,
            machine=machine(),
            titles={one.name: one.what for one in chosen},
            weights=unpacked.weights.stat().st_size,
            settings=dict(unpacked.settings()),
            evaluation=unpacked.contract.evaluation,
        )

        def save() -> None:
            documents.write(path, results, Results, private=False)

        console.print("the prompts, and their answers alone")
        engine = in_process.load(unpacked.directory, slots=1)
        drawn = prompts.draw(engine, ALONE, TOGETHER, len(BESIDE))
        engine.close()
        Bench(results, unpacked, drawn, lambda text: console.print(text, markup=False), save).run(chosen)
        save()
    return results


def _chosen(only: set[str]) -> list[Contender]:
    known = contenders.contenders(ROOT / ".bench" / "chat")
    unknown = only - {one.name for one in known}
    if unknown:
        names = ", ".join(one.name for one in known)
        raise ValueError(f"no contender is called {', '.join(sorted(unknown))}; there are {names}")
    return [one for one in known if not only or one.name in only]


if __name__ == "__main__":
    command_line.run(app, "python -m loadtests.bench.language")
