"""A client that openapi-python-client generates from ``/openapi.json``: what it gets where it sends each example."""

import importlib
import json
import pkgutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, get_args, get_type_hints

CONFIG = "post_hooks: []\n"  # no formatting


def generate(url: str, folder: Path) -> dict[str, Any]:
    """Write the package ``client`` into a folder, and return the document."""
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        content = answer.read()
    (folder / "openapi.json").write_bytes(content)
    (folder / "config.yaml").write_text(CONFIG)
    command = [str(Path(sys.executable).parent / "openapi-python-client"), "generate", "--meta", "none"]
    command += ["--path", "openapi.json", "--config", "config.yaml", "--output-path", "client", "--fail-on-warning"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}")
    document: dict[str, Any] = json.loads(content)
    return document


def functions() -> dict[str, Any]:
    """The generated modules of operations, by the operation's name."""
    api = importlib.import_module("client.api")
    found = pkgutil.walk_packages(api.__path__, "client.api.")
    return {info.name.rpartition(".")[2]: importlib.import_module(info.name) for info in found if not info.ispkg}


def ask(url: str, module: Any, example: Any) -> Any:
    """The answer to an example as the client has parsed it, and the status."""
    client = importlib.import_module("client").Client(url, timeout=60)
    hints = get_type_hints(module.sync_detailed, vars(importlib.import_module("client.types")) | vars(module))
    kinds = [kind for kind in (hints["body"], *get_args(hints["body"])) if hasattr(kind, "from_dict")]
    response = module.sync_detailed(client=client, body=kinds[0].from_dict(example))
    parsed = response.parsed.to_dict() if hasattr(response.parsed, "to_dict") else response.parsed
    return {"status": response.status_code.value, "answer": parsed}


def main(url: str) -> dict[str, Any]:
    """Send the example of each route that takes one."""
    with tempfile.TemporaryDirectory() as folder:
        document = generate(url, Path(folder))
        sys.path.insert(0, folder)
        modules, answers = functions(), {}
        for path, methods in document["paths"].items():
            if operation := methods.get("post"):
                example = operation["requestBody"]["content"]["application/json"]["example"]
                module = modules[operation["operationId"].lower()]
                answers[path] = ask(url, module, example)
        return answers


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
