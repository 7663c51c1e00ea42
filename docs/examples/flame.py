"""Draw whose time a worker's time is, as a flame graph under load: the picture of docs/performance.md.

python docs/examples/flame.py --model flights   # as root, beside a running service: py-spy reads it
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import httpx
import typer

from loadtests import wrk
from loadtests.tune.champion import Champion
from serving.hosts.direct.board import Board
from serving.hosts.torchserve.management import Management
from serving.settings import Settings

PY_SPY = Path(sys.executable).with_name("py-spy")
WARM_UP = 3.0  # s
RATE = 200  # samples a second


def worker_of(settings: Settings, model: str) -> int:
    """The process id of a model's first worker, of the host of MARLOOP_HOST.

    Raises:
        ManagementError: the service does not run, or does not serve the model.
        StopIteration: the same, of the direct host.
    """
    if settings.host == "direct":
        return next(beat.pid for beat in Board(settings.board).workers() if model in beat.served)
    with httpx.Client(timeout=10, trust_env=False) as client:
        management = Management(settings.management_address, client)
        version = management.versions()[model][0]
        return int(management.describe(model, version)["workers"][0]["pid"])


def record(pid: int, seconds: int, out: Path) -> None:
    """Sample what a process does, but for waiting, into an SVG.

    Raises:
        CalledProcessError: py-spy may not read the process; it says so.
    """
    options = ["--pid", str(pid), "--duration", str(seconds), "--rate", str(RATE)]
    subprocess.run([PY_SPY, "record", *options, "--format", "flamegraph", "--output", out], check=True)
    svg = out.read_text(encoding="utf-8")  # its title is the command, with this machine's paths
    out.write_text(
        re.sub(r"(>)[^<]*py-spy record[^<]*(<)", r"\1a worker under load, by py-spy\2", svg), encoding="utf-8"
    )


def main(
    model: Annotated[str, typer.Option(help="Name of a model that is served.")] = "flights",
    out: Annotated[Path, typer.Option(help="SVG to write.")] = Path("docs/examples/flame.svg"),
    clients: Annotated[int, typer.Option(min=1, help="Connections that ask without a pause.")] = 64,
    seconds: Annotated[int, typer.Option(min=1, help="How long to look.")] = 10,
) -> None:
    """Put load on a model, and draw where its worker spends its time."""
    settings = Settings.from_environment(os.environ)
    url = f"{settings.inference_url}/predictions/{model}"
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        script = Champion.of(settings.model_store, model).write_requests(Path(folder) / "requests.lua")
        wrk.run(url, script, clients, WARM_UP)
        load = pool.submit(wrk.run, url, script, clients, seconds + 2.0)
        record(worker_of(settings, model), seconds, out)
        typer.echo(f"wrote {out}: {load.result().per_second:,.0f} answers a second while it looked")


if __name__ == "__main__":
    typer.run(main)
