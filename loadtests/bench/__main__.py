"""``python -m loadtests.bench``: Marloop side by side with what a user would pick instead.

Each peer is a small server in an environment of its own, made on demand under ``.bench/``, with the champion's graph
and the same answers. It takes about forty minutes on two cores, and the machine should have nothing else to do.
``marloop bench language`` does the same for the language model.
"""

import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from loadtests import wrk
from loadtests.bench.rounds import chosen
from loadtests.bench.tensors import capacity, contenders, marloop, report, whole_host
from loadtests.bench.tensors.contenders import MODELS, Contender
from loadtests.bench.tensors.measurement import Bench
from loadtests.bench.tensors.results import QUICK, Plan, Results
from serving import archive, command_line, documents
from serving.command_line import console
from serving.hosts.torchserve.management import ManagementError
from serving.processes import StartError
from serving.registry import ArchiveError, Registry
from serving.settings import ROOT, Folders, Settings
from training.figures.machine import details
from training.figures.picture import beside

HELP = (__doc__ or "").partition(": ")[2]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=HELP)
ENVIRONMENTS = ROOT / ".bench"
ROUNDS = 3  # rounds of the language model
SPECULATION_ROUNDS = 5
ALONE = 3  # prompts of a turn that are sent one at a time
Only = Annotated[list[str] | None, typer.Option(help="Only this contender; may be repeated.")]


@app.callback(invoke_without_command=True, help=HELP)
def bench(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="One short round: does everything work?")] = False,
    only: Only = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = Plan().rounds,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of each measurement.")] = Plan().seconds,
    soak: Annotated[float, typer.Option(help="Seconds of load under which memory is watched; 0: none.")] = 0,
    page: Annotated[Path, typer.Option(help="Page for the tables; the chart lies beside it.")] = ROOT
    / "docs/performance.md",
    again: Annotated[Path | None, typer.Option(help="Write the page of an earlier run from its results.json.")] = None,
    finish: Annotated[
        Path | None, typer.Option(help="Measure what comes after the rounds for the results.json of a run that ended.")
    ] = None,
) -> None:
    """Measure, and write the page."""
    if context.invoked_subcommand:
        return
    with _stopping():
        if again:
            results = msgspec.json.decode(again.read_bytes(), type=Results)
        elif finish:
            results = _finish(finish)
        else:
            plan = msgspec.structs.replace(QUICK, soak=soak) if quick else Plan(rounds, seconds, soak=soak)
            results = _measure(plan, only or [])
        console.print(report.write_page(results, page), markup=False)
    console.print(f"written to {page} and {beside(page)}")


@app.command("language")
def language_command(
    name: Annotated[str, typer.Option("--model", help="The language model, by its name in the store.")] = "chat",
    only: Only = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = ROUNDS,
    page: Annotated[Path, typer.Option(help="Page for the tables; chart and results lie beside it.")] = ROOT
    / "docs/language-model.md",
    again: Annotated[bool, typer.Option("--again", help="Write the page of the results that lie beside it.")] = False,
) -> None:
    """Measure the language model beside its peers, ten minutes on two cores, and write the page."""
    from loadtests.bench.language import report
    from loadtests.bench.language.results import Results

    path = page.with_suffix(".json")
    with _stopping():
        if not again:
            _measure_language(name, only or [], rounds, path)
        console.print(report.write_page(msgspec.json.decode(path.read_bytes(), type=Results), page), markup=False)
    console.print(f"written to {page} and {path}")


@app.command("speculation")
def speculation_command(
    name: Annotated[str, typer.Option("--model", help="The language model, by its name in the store.")] = "chat",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.")] = SPECULATION_ROUNDS,
) -> None:
    """Measure the language model's engine with speculative decoding and without, in turn, for some minutes."""
    with _stopping():
        _say(_measure_speculation(name, rounds))


@contextmanager
def _stopping() -> Iterator[None]:
    """End with a sentence where the run cannot go on; on every way out the started processes are stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (wrk.WrkError, ArchiveError, OSError, ValueError, ModuleNotFoundError) as error:
        command_line.fail(str(error))
    except KeyboardInterrupt:
        console.print("interrupted; everything that was started is stopped")
        raise typer.Exit(130) from None


def _say(text: str) -> None:
    console.print(text, markup=False)


def _measure(plan: Plan, only: list[str]) -> Results:
    wrk.find()
    servers = chosen([*contenders.marloops(), *contenders.peers(ENVIRONMENTS)], only)
    registry = Registry(Settings.from_environment(os.environ).model_store)
    missing = [model for model in MODELS if model not in registry.champions()]
    if missing:
        raise ArchiveError(f"{', '.join(missing)} has no champion in {registry.store}: run `make up` once")
    models = {model: marloop.unpack(registry, model, ENVIRONMENTS / "models" / model) for model in MODELS}
    started = datetime.now(UTC)
    folder = ROOT / "loadtests" / "reports" / f"{started:%Y%m%d-%H%M%S}-bench"
    folder.mkdir(parents=True)
    results = Results(
        started=started.isoformat(timespec="seconds"),
        plan=plan,
        machine=details(),
        titles={server.name: server.what for server in servers},
        settings={model: dict(marloop.serving_settings(path)) for model, path in models.items()},
    )

    def save() -> None:
        documents.write_json(folder / "results.json", results, Results, private=False)

    run = Bench(results, models, _say, save)
    run.run(servers)
    _measure_rest(results, run, servers, models, registry)
    save()
    _say(f"raw results: {folder / 'results.json'}")
    return results


def _measure_rest(
    results: Results, run: Bench, servers: list[Contender], models: Mapping[str, Path], registry: Registry
) -> None:
    """Measure what is no contest: the bounds of our own hosts. What fails is told, and the rest goes on."""
    ours = next((server for server in servers if server.name == "marloop"), None)
    try:
        if ours and "marloop" not in results.absent:
            run.ceilings(ours)
            _say("past the queue's capacity, cold start, memory")
            results.extremes = capacity.measure(models["flights"], run.exchange(ours, "flights"), results.plan)
        if any(server.name == "marloop-direct" for server in servers):
            _say("cold start and memory of the direct host")
            results.direct = whole_host.measure(registry.store)
    except (StartError, ManagementError, wrk.WrkError) as error:
        _say(f"not measured, nor what follows: {error}\n`--finish` tries it again with this run's results.json")


def _finish(path: Path) -> Results:
    """Measure the rest of an earlier run, and write it to its file."""
    results = msgspec.json.decode(path.read_bytes(), type=Results)
    registry = Registry(Settings.from_environment(os.environ).model_store)
    models = {model: marloop.unpack(registry, model, ENVIRONMENTS / "models" / model) for model in MODELS}
    run = Bench(results, models, _say, lambda: None)
    servers = [server for server in contenders.marloops() if server.name in results.titles]
    _measure_rest(results, run, servers, models, registry)
    documents.write_json(path, results, Results, private=False)
    return results


def _measure_language(name: str, only: list[str], rounds: int, path: Path) -> None:
    from loadtests.bench.language import contenders, in_process, model, prompts
    from loadtests.bench.language.measurement import Bench
    from loadtests.bench.language.results import BESIDE, TOGETHER, Results

    generators = chosen(contenders.contenders(ENVIRONMENTS / "chat"), only)
    registry = Registry(Settings.from_environment(os.environ).model_store)
    with tempfile.TemporaryDirectory(prefix="marloop-chat-") as folder:
        unpacked = model.unpack(registry, name, Path(folder), Folders.from_environment(os.environ).cache)
        results = Results(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            rounds=rounds,
            machine=details(),
            titles={generator.name: generator.what for generator in generators},
            weights=unpacked.weights.stat().st_size,
            settings=dict(unpacked.settings()),
            evaluation=unpacked.contract.evaluation,
        )

        def save() -> None:
            documents.write_json(path, results, Results, private=False)

        _say("the prompts, and their answers alone")
        engine = in_process.load(unpacked.directory, slots=1)
        chosen_prompts = prompts.draw_prompts(engine, ALONE, TOGETHER, len(BESIDE))
        engine.close()
        Bench(results, unpacked, chosen_prompts, _say, save).run(generators)
        save()


def _measure_speculation(name: str, rounds: int) -> str:
    """Return the gains as a table."""
    from handlers.entry_points.chat import SPECULATIVE
    from loadtests.bench.language import in_process, speculation

    registry = Registry(Settings.from_environment(os.environ).model_store)
    path = registry.verify(registry.champion(name).version)
    with tempfile.TemporaryDirectory(prefix="marloop-chat-") as folder:
        archive.unpack(path, Path(folder))
        drafts = {speculation.WITHOUT: {SPECULATIVE: 0}, speculation.WITH: {SPECULATIVE: speculation.DRAFTS}}
        engines = {title: in_process.load(Path(folder), **changed) for title, changed in drafts.items()}
        gains = speculation.measure(engines, rounds, _say)
        for engine in engines.values():
            engine.close()
    return speculation.table(gains)


if __name__ == "__main__":
    command_line.run(app, "loadtests.bench")
