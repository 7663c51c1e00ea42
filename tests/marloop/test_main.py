"""``marloop`` as a user calls it: in a process of its own, from any folder."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from marloop.__main__ import main
from marloop.verbs import VERBS
from serving.settings import ROOT

HEAVY = ("torch", "onnxruntime", "pandas", "fastapi", "numpy", "httpx", "sqlalchemy", "msgspec")


def marloop(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Call it from a folder that is not the checkout."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "MARLOOP_ENV_FILE": "off"} | environ
    command = [sys.executable, "-P", "-m", "marloop", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_the_help_shows_every_verb_with_its_sentence_below_what_one_wants_to_do(tmp_path: Path) -> None:
    done = marloop("--help", folder=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for section, verbs in VERBS.items():
        begin = next(number for number, line in enumerate(lines) if line.startswith(f"╭─ {section} ─"))
        shown = [line.strip("│ ") for line in lines[begin + 1 : begin + 1 + len(verbs)]]
        assert [" ".join(line.split()) for line in shown] == [f"{verb.name} {verb.sentence}" for verb in verbs]


@pytest.mark.parametrize("arguments", [["--help"], ["trian"], ["--show-completion", "bash"]], ids=" ".join)
def test_what_needs_no_program_imports_none(arguments: list[str]) -> None:
    program = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr))\n"
        f"sys.argv[1:] = {arguments}\n"
        "from marloop.__main__ import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stderr.splitlines()[-1] == "[]"


def test_an_unknown_verb_is_answered_by_the_nearest(tmp_path: Path) -> None:
    done = marloop("trian", folder=tmp_path)
    assert done.returncode == 2
    assert "No such command 'trian'. Did you mean 'train'?" in " ".join(done.stderr.replace("│", "").split())


def test_a_verb_has_the_options_and_the_exit_code_of_its_command(tmp_path: Path) -> None:
    done = marloop("train", "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "Usage: marloop train [OPTIONS] {model}" in done.stdout
    assert "--preset" in done.stdout
    done = marloop("promote", "wine", "1.0", folder=tmp_path, MARLOOP_MODEL_STORE=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "error: wine 1.0 is not registered; there are none\n")


def test_what_a_verb_of_serving_writes_is_private(tmp_path: Path) -> None:
    code = "import os; os.umask(0); from marloop.__main__ import main; main()"
    store, environ = tmp_path / "store", os.environ | {"MARLOOP_MODEL_STORE": str(tmp_path / "store")}
    command = [sys.executable, "-c", code, "remove", "--yes", "wine"]
    subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, timeout=300)
    assert (store / "registry.lock").stat().st_mode & 0o077 == 0


def test_completion_knows_the_verbs_and_the_options_of_one(tmp_path: Path) -> None:
    words = {"_MARLOOP_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    done = marloop(folder=tmp_path, COMP_WORDS="marloop pro", **words)
    assert done.stdout.split() == ["promote", "profiles"]
    done = marloop(folder=tmp_path, COMP_WORDS="marloop train --pre", **(words | {"COMP_CWORD": "2"}))
    assert done.stdout.split() == ["--preset"]


def test_the_script_that_pip_installs_is_this_command_line() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"marloop": f"{main.__module__}:{main.__name__}"}


def test_a_package_that_is_missing_is_named_with_the_way_to_get_it() -> None:
    """As in an image of the direct host, which has no database."""
    program = "import sys; sys.modules['sqlalchemy'] = None; from marloop.__main__ import main; main()"
    command = [sys.executable, "-c", program, "prune", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("error: the package sqlalchemy is not installed here: `pip install -e .` in")


ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # as an old terminal, or a job of cron, has it


def test_a_locale_without_the_letters_of_a_file_ends_no_command_and_changes_no_recipe(tmp_path: Path) -> None:
    rows = "".join(f"{i % 7},{'äß'[i % 2]},{'ja' if i % 7 > 3 else 'nein'}\n" for i in range(99))
    (tmp_path / "table.csv").write_text("größe,straße,ja?\n" + rows, "utf-8")
    recipes = []
    for name, locale in (("known", {"PYTHONUTF8": "1"}), ("ascii", ASCII)):
        (tmp_path / name).mkdir()
        command = ("new", "town", "--csv", str(tmp_path / "table.csv"), "--target", "ja?")
        done = marloop(*command, folder=tmp_path, MARLOOP_RECIPES=str(tmp_path / name), **locale)
        assert done.returncode == 0, done.stdout + done.stderr
        recipes.append((tmp_path / name / "town.py").read_bytes())
    assert recipes[0] == recipes[1]
    assert "gr\\xf6\\xdfe " in done.stdout
    done = marloop("check", "town", folder=tmp_path, MARLOOP_RECIPES=str(tmp_path / "ascii"), **ASCII)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (("remove", "wine", "--yes"), "MARLOOP_MODEL_STORE"),
        (("keys", "add", "app"), "MARLOOP_MODEL_STORE"),
        (("prune",), "MARLOOP_RUN_DIR"),
        (("train", "linear"), "MARLOOP_RUNS"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_folder_that_cannot_be_written_is_named_with_its_setting(
    arguments: tuple[str, ...], variable: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    folders = {name: tmp_path / name for name in ("MODEL_STORE", "RUN_DIR", "CACHE", "RUNS")}
    environ = {f"MARLOOP_{name}": str(folder) for name, folder in folders.items()}
    done = marloop(*arguments, folder=tmp_path, **environ | {variable: str(tmp_path / "file" / "folder")})
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert f"{tmp_path / 'file'}" in said
    assert "Traceback" not in said
    assert variable in said
