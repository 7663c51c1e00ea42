"""A trial of an archive: a process of its own loads its model once, from what is packed, as a worker does."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from handlers.observe.settings import CAPTURE_URL
from serving import archive
from serving.archive import ArchiveError
from serving.hosts.worker_environment import worker_environment

LIMIT = 300.0  # s until a model that does not load is given up
# What ts/model_loader.py of TorchServe does with an entry point without a function `handle`.
PROGRAM = """
import importlib, inspect, json, sys
from types import SimpleNamespace

folder, entry_point, config = sys.argv[1:]
module = importlib.import_module(entry_point)
classes = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == entry_point]
if len(classes) != 1:
    names = ", ".join(kind.__name__ for kind in classes) or "none"
    sys.exit(f"{entry_point}.py must have one class, the service, beside what it imports; it has {names}")
service = classes[0]()
service.initialize(
    SimpleNamespace(system_properties={"model_dir": folder}, model_yaml_config=json.loads(config), model_name=None)
)
"""


def check_loads(path: Path) -> None:
    """Load the model of an archive once, so that it answers its example.

    Raises:
        ArchiveError: it cannot be loaded, or answers its example otherwise than training did.
    """
    environ = {name: value for name, value in worker_environment(os.environ).items() if name != CAPTURE_URL}
    with tempfile.TemporaryDirectory() as folder:
        archive.unpack(path, Path(folder))
        entry_point, config = archive.entry_point(path), json.dumps(archive.read_config(path))
        command = [sys.executable, "-c", PROGRAM, folder, entry_point, config]
        try:
            done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired as error:
            raise ArchiveError(f"{path} does not load within {LIMIT:.0f} s") from error
    if done.returncode:
        cause = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
        raise ArchiveError(f"{path} cannot be loaded: {cause}")
