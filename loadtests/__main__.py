"""``python -m loadtests``: load the running service with Locust and judge it by its objectives, or tune it by load."""

import importlib.util
import os
import socket
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import httpx
import msgspec
import typer
from rich.table import Table

from handlers.contract import ModelContract
from loadtests.capacity import commands as capacity
from loadtests.plan import Plan, contracts, key_headers
from loadtests.profiles import PROFILES, ProfileName
from loadtests.slo import FILE, failed, read_slo
from loadtests.tune.candidates import grid
from serving import command_line
from serving.command_line import Json, console, fail, option
from serving.hosts.torchserve.management import Management, ManagementError
from serving.ports import free_ports
from serving.readiness import ask
from serving.registry import ArchiveError
from serving.settings import ROOT, HostName, Settings

PORT = Settings().locust_port
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(capacity.app, name="capacity")
HERE = Path(__file__).parent
Role = Literal["alone", "master", "worker"]  # of a process, where the load comes from several machines or containers


@app.command("run")
def run_command(
    model: Annotated[str, typer.Option(help="Name of a model; default: all that are served, by their weights.")] = "",
    profile: Annotated[ProfileName, typer.Option(help="Course of the load; `marloop profiles` shows them.")] = "smoke",
    host: Annotated[str, typer.Option(help="URL of the service; default: this machine's inference port.")] = "",
    users: Annotated[int | None, typer.Option(min=1, help="Most users at once; default: the profile's.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that send; one fills one core.")] = 1,
    web: Annotated[
        bool, typer.Option("--web", help="With Locust's page, which stays; Ctrl-C ends first the run, then the page.")
    ] = False,
    role: Annotated[Role, typer.Option(help="Alone, or one of several: the master counts, workers send.")] = "alone",
    master_host: Annotated[str, typer.Option(help="Where a worker finds the master.")] = "127.0.0.1",
    master_port: Annotated[int, typer.Option(help="Where the master listens for workers.")] = 5557,
    workers: Annotated[int, typer.Option(min=1, help="How many workers a master waits for.")] = 1,
    port: Annotated[int, option(Settings, "locust_port")] = PORT,
    seed: Annotated[int, typer.Option(help="Of the requests that are drawn.")] = 0,
    slo_file: Annotated[
        Path, typer.Option("--slo", help="File of the objectives.", show_default="loadtests/slo.yaml")
    ] = FILE,
    reports: Annotated[Path, typer.Option(help="Folder for the reports.", show_default="loadtests/reports")] = HERE
    / "reports",
    seconds: Annotated[
        float | None, typer.Option("--time", min=3, hidden=True, help="Length of the run, in s.")
    ] = None,
) -> None:
    """Send a model requests drawn from its contract, check every answer, and judge the run by loadtests/slo.yaml.

    The exit code is 0 if every objective is met, 1 if one is missed, 2 if the run cannot start, 130 after Ctrl-C.
    """
    settings = _settings()
    url = (host or settings.inference_url).rstrip("/")
    headers = _key_headers(settings, url)
    models = _models(settings, model, profile, slo_file)
    options = ["--host", url]
    report = ""
    if role == "worker":
        options += ["--worker", "--master-host", master_host, "--master-port", str(master_port)]
    else:
        _check_service(headers, url, models)
        _check_port(settings.private_address, port)
        folder = _report_folder(reports, model, profile)
        report = str(folder)
        options += ["--csv", str(folder / "stats"), "--html", str(folder / "report.html")]
        options += _page(settings.private_address, port) if web else ["--headless", "--only-summary"]
    if role == "master":
        options += ["--master", "--master-bind-host", settings.private_address, "--master-bind-port", str(master_port)]
        options += ["--expect-workers", str(workers), "--expect-workers-max-wait", "60"]
    elif processes > 1:
        options += ["--processes", str(processes), *(_meeting_point() if role == "alone" else [])]
    metrics = f"{settings.private_address}:{port}"
    plan = Plan(model, profile, users, seconds, metrics, report, str(slo_file.resolve()), seed)
    _become_locust(options, settings, plan)


@app.command("tune")
def tune_command(
    model: Annotated[str, typer.Option(help="Name of a model that is served.")],
    p99_ms: Annotated[float, typer.Option(min=0.1, help="Objective: 99 of 100 answers within so many ms.")] = 50.0,
    workers: Annotated[list[int] | None, typer.Option(min=1, help="Numbers of workers to try: 1 and 2.")] = None,
    batch_sizes: Annotated[
        list[int] | None, typer.Option("--batch-size", min=1, help="Batch sizes to try: 1, 16, 64, 128.")
    ] = None,
    delays: Annotated[list[int] | None, typer.Option("--delay", min=1, help="Delays to try, ms: 1 and 3.")] = None,
    clients: Annotated[list[int] | None, typer.Option(min=1, help="Loads to try: 1, 16, 64, 256 clients.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one measurement.")] = 3.0,
    keep: Annotated[bool, typer.Option(help="Keep the best settings, and package the champion with them.")] = True,
    reports: Annotated[Path, typer.Option(help="Folder for the curve.", show_default="loadtests/reports")] = HERE
    / "reports",
) -> None:
    """Find a model's best batch and worker settings under a latency objective, on the running service.

    Candidates are registered beside the champion, which goes on answering, and are removed whatever happens. The exit
    code is 0 if some settings keep to the objective, 1 if none do, 2 if it cannot start, 130 after Ctrl-C.
    """
    from loadtests.tune.tune import Tuning
    from loadtests.wrk import WrkError

    candidates = grid(workers or [1, 2], batch_sizes or [1, 16, 64, 128], delays or [1, 3])
    try:
        tuning = Tuning(_settings(), model, p99_ms, seconds, _report_folder(reports, model, "tune"), console)
        best = tuning.run(candidates, clients or [1, 16, 64, 256], keep)
    except (ArchiveError, ManagementError, WrkError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        console.print("interrupted; the service is as it was")
        raise typer.Exit(130) from None
    raise typer.Exit(0 if best else 1)


@app.command("guard")
def guard_command(
    model: Annotated[str, typer.Option(help="Name of a model that is served.")] = "flights",
    least: Annotated[float, typer.Option(help="Share of the echo's throughput that the model must reach.")] = 0.7,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is loaded.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one measurement.")] = 2.0,
    clients: Annotated[int, typer.Option(min=1, help="Connections.")] = 64,
) -> None:
    """Has the handlers' path become slow? A model against a handler that does nothing, on the same TorchServe.

    The exit code is 0 if the model reaches its share of the echo's throughput, 1 if not, 2 if it cannot start.
    """
    from loadtests import wrk
    from loadtests.tune import guard
    from loadtests.tune.champion import Champion

    settings = _settings()
    with tempfile.TemporaryDirectory() as folder, httpx.Client(timeout=120, trust_env=False) as client:
        try:
            champion = Champion.of(settings.model_store, model)
            script = champion.write_requests(Path(folder) / "requests.lua")
            share = guard.measure(
                Management(settings.management_address, client),
                settings.model_store,
                model,
                champion.archive,
                lambda name: (
                    wrk.run(f"{settings.inference_url}/predictions/{name}", script, clients, seconds).per_second
                ),
                rounds,
            )
        except (ArchiveError, ManagementError, wrk.WrkError) as error:
            _fail(str(error))
    verdict = "as it should be" if share.ratio >= least else "SLOWER than it may be"
    console.print(f"{model} {share.model:,.0f}, echo {share.echo:,.0f} answers a second", markup=False)
    console.print(f"share {share.ratio:.2f}, at least {least:.2f}: {verdict}")
    raise typer.Exit(0 if share.ratio >= least else 1)


@app.command("versus")
def versus_command(
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, a variable of the other side.")
    ] = None,
    checkout: Annotated[Path, typer.Option(help="The other side's launcher and configuration.")] = ROOT,
    store: Annotated[Path | None, typer.Option(help="The other side's model store.")] = None,
    host: Annotated[HostName | None, typer.Option(help="What serves both sides. [default: MARLOOP_HOST]")] = None,
    model: Annotated[str, typer.Option(help="Name of a model.")] = "flights",
    clients: Annotated[int, typer.Option(min=1, help="Connections.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="How often each side is loaded.")] = 9,
    seconds: Annotated[float, typer.Option(min=1, help="Length of one measurement.")] = 3.0,
) -> None:
    """Two ways to serve a model, loaded in turn: what is a setting, a checkout or another archive worth?"""
    from loadtests.tune import versus
    from loadtests.wrk import WrkError
    from serving.processes import StartError

    own = _settings()
    both = {"MARLOOP_HOST": host or own.host}
    if unset := [change for change in changes or [] if "=" not in change]:
        _fail(f"--set {unset[0]} must be NAME=VALUE")
    environment = both | dict(change.split("=", 1) for change in changes or [])
    sides = (
        versus.Side(own.model_store, environment=both),
        versus.Side(store or own.model_store, checkout.resolve(), environment),
    )
    try:
        ratio = versus.compare(sides, model, clients, rounds, seconds, console.print)
    except (ArchiveError, StartError, WrkError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    middle, low, high = ratio.throughput
    console.print(f"{model}, {clients} clients, {rounds} rounds: the other side has {middle:.3f} of the throughput")
    console.print(f"({low:.3f} to {high:.3f}), {ratio.p50:.3f} of the p50, {ratio.p99:.3f} of the p99")


@app.command("overload")
def overload_command(
    model: Annotated[str, typer.Option(help="Name of a model that is served.")] = "flights",
    host: Annotated[str, typer.Option(help="URL of the service; default: this machine's inference port.")] = "",
    rows: Annotated[int, typer.Option(min=1, help="Rows of each request.")] = 1024,
    factor: Annotated[float, typer.Option(min=1.1, help="Requests that come, in times of what can be answered.")] = 3.0,
    seconds: Annotated[float, typer.Option("--time", min=1, help="Length of each of two measurements.")] = 15.0,
) -> None:
    """More requests than a model can answer, at a constant rate: how many are answered, how soon, how are others told?

    A closed loop, which `marloop load` makes, hides this: its users wait for an answer before they ask again. The exit
    code is 0 if 90 % of the peak is answered, within ten times the idle p99, and whoever is turned away knows it within
    50 ms and is told when to come back; 1 if not, 2 if it cannot start, 130 after Ctrl-C.
    """
    from loadtests.capacity import overload
    from loadtests.tune.champion import Champion

    settings = _settings()
    try:
        contract = Champion.of(settings.model_store, model).contract
        url = (host or settings.inference_url).rstrip("/")
        _check_service(headers := _key_headers(settings, url), url, [contract])
        measured = overload.measure(contract, url, rows, factor, seconds, headers)
    except (ArchiveError, overload.OverloadError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    overload.describe(measured, lambda line: console.print(line, markup=False))
    missed = failed(overload.judge(model, measured))
    for verdict in missed:
        console.print(f"MISSED {verdict}", markup=False)
    raise typer.Exit(1 if missed else 0)


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """Show the profiles and what they do."""
    if as_json:
        typer.echo(msgspec.json.encode(list(PROFILES.values())))
        return
    table = Table("profile", "load", "s")
    for profile in PROFILES.values():
        table.add_row(profile.name, profile.description, f"{profile.seconds:.0f}")
    console.print(table)


def _settings() -> Settings:
    try:
        return Settings.from_environment(os.environ)
    except ValueError as error:
        _fail(str(error))


def _models(settings: Settings, model: str, profile: str, slo_file: Path) -> list[ModelContract]:
    """Return the models of a run; end with a message where anything that it needs on this side is missing."""
    if importlib.util.find_spec("locust") is None:
        _fail("Locust is not installed: `make load` installs it, or `pip install -e '.[load]'`")
    try:
        models = contracts(settings, model)
        slo = read_slo(slo_file)
        for contract in models:
            slo.objectives(contract.name, profile)
    except (ArchiveError, ValueError) as error:
        _fail(str(error))
    return models


def _key_headers(settings: Settings, url: str) -> dict[str, str]:
    """Return the headers that let a run in; end with a message where the key cannot be read."""
    try:
        return key_headers(settings, url, os.environ)
    except ValueError as error:
        _fail(str(error))


def _check_service(headers: dict[str, str], url: str, models: list[ModelContract]) -> None:
    """End with a message if a model does not answer its example."""
    with httpx.Client(timeout=10, trust_env=False, headers=headers) as client:
        try:
            client.get(f"{url}/ping")
        except httpx.InvalidURL as error:
            _fail(f"--host {url}: {error}")
        except httpx.HTTPError as error:
            _fail(f"no service answers at {url} ({type(error).__name__}): `make up` starts it, `--host` names another")
        answers = [ask(client, url, contract) for contract in models]
    for answer in answers:
        if not answer.ready:
            model = f"{answer.name} {answer.version}"
            refused = answer.detail.startswith(("401", "403"))
            way_out = "MARLOOP_API_KEY must be a key for it" if refused else "`make up` serves every champion"
            _fail(f"{model} is not served at {url}: {answer.detail}. {way_out}")


def _check_port(address: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            _fail(
                f"port {port} of {address} is not free ({error.strerror}): --port or MARLOOP_LOCUST_PORT names another"
            )


def _page(address: str, port: int) -> list[str]:
    """Return options for Locust's page, which begins the run by itself."""
    console.print(f"page: http://{address}:{port}")
    return ["--web-host", address, "--web-port", str(port), "--autostart"]


def _meeting_point() -> list[str]:
    """Return options for a master and its own workers: a free port that only this machine reaches."""
    port = str(free_ports(1)[0])
    return ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]


def _report_folder(reports: Path, model: str, profile: str) -> Path:
    now = datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    folder = reports.resolve() / f"{now}-{model or 'all'}-{profile}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _become_locust(options: list[str], settings: Settings, plan: Plan) -> NoReturn:
    """Replace this process, so that Ctrl-C and other signals reach Locust itself."""
    command = [sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--loglevel", "WARNING", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    os.chdir(ROOT)
    os.execve(command[0], command, environment | settings.to_environment() | plan.to_environment())


def _fail(message: str) -> NoReturn:
    """End with the code of a run that cannot start."""
    fail(message, code=2)


if __name__ == "__main__":
    command_line.run(app, "loadtests")
