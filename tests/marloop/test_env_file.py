"""``.env`` is read by every command, as make and docker compose read it, or refused with the line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import command_line
from serving.command_line import ENV_FILE, EnvFileError, load_env_file, read_env_file
from serving.settings import ROOT

ACCEPTED = """# A comment, of one's own # and "more"

MARLOOP_INFERENCE_PORT=18080
export MARLOOP_RUN_DIR=run two/é
EMPTY=
DATABASE_URL=postgresql://user:pass!word@127.0.0.1:5432/marloop?a=b&c=d
MODELS=linear flights
LIST=a,b;c|d*~(e)[f]{g}<h>%i^@j=k
MARLOOP_INFERENCE_PORT=18081
"""


def write(folder: Path, content: str) -> Path:
    path = folder / ".env"
    path.write_bytes(content.encode())
    return path


def test_assignments_are_read_and_the_last_one_wins(tmp_path: Path) -> None:
    found = read_env_file(write(tmp_path, ACCEPTED))
    assert found["MARLOOP_INFERENCE_PORT"] == "18081"
    assert found["MARLOOP_RUN_DIR"] == "run two/é"
    assert found["EMPTY"] == ""
    assert found["DATABASE_URL"] == "postgresql://user:pass!word@127.0.0.1:5432/marloop?a=b&c=d"


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_reads_what_is_accepted_alike(tmp_path: Path) -> None:
    found = read_env_file(write(tmp_path, ACCEPTED))
    command = "import json, os; print(json.dumps(dict(os.environ)))"
    (tmp_path / "Makefile").write_text(f"include .env\nexport\nall:\n\t@{sys.executable} -c '{command}'\n")
    output = subprocess.run(["make", "-s"], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True).stdout
    assert json.loads(output).items() >= found.items()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("A='b'", "the value of A has a quote"),
        ('A="b c"', "the value of A has a quote"),
        ("A=b # comment", "the value of A has a #"),
        ("A=b#c", "the value of A has a #"),
        ("A=$HOME", r"the value of A has a \$"),
        ("A=${B}", r"the value of A has a \$"),
        ("A=b\\", "the value of A has a backslash"),
        ("A=b\\n", "the value of A has a backslash"),
        ("A=b ", "begins or ends with a blank"),
        ("A= b", "begins or ends with a blank"),
        ("A=b\r", "ends with a carriage return"),
        ("\r", "ends with a carriage return"),
        ("A = b", "is no assignment"),
        ("A: b", "is no assignment"),
        ("A", "is no assignment"),
        ("A-B=c", "is no assignment"),
        ("1A=b", "is no assignment"),
        ("A:=b", "is no assignment"),
        ("A+=b", "is no assignment"),
        ("export  A=b", "is no assignment"),
        ("include other", "is no assignment"),
        (" A=b", "begins with a blank"),
        ("\tA=b", "begins with a blank"),
        ("\ufeffA=b", "is no assignment"),
        ("A=b\x00c", "control character"),
        ("# a comment that goes on \\", "ends with a backslash"),
    ],
)
def test_a_line_that_somebody_reads_differently_is_refused_with_its_number(
    tmp_path: Path, line: str, fault: str
) -> None:
    with pytest.raises(EnvFileError, match=rf"\.env, line 2: .*{fault}"):
        read_env_file(write(tmp_path, f"GOOD=1\n{line}\n"))


def fault_of(path: Path) -> str:
    try:
        read_env_file(path)
    except EnvFileError as error:
        return str(error)
    return ""


@given(*2 * (st.text(st.characters(exclude_categories=["Cs"])),))
def test_no_message_tells_a_value_and_no_file_ends_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, before: str, after: str
) -> None:
    path = write(tmp_path_factory.mktemp("env"), f"TOKEN={before}verysecretvalue{after}")
    assert "verysecretvalue" not in fault_of(path)


def test_the_environment_wins_even_where_it_is_empty(tmp_path: Path) -> None:
    write(tmp_path, "A=file\nB=file\nC=file\n")
    environ = {"A": "shell", "B": ""}
    load_env_file(environ, tmp_path)
    assert environ == {"A": "shell", "B": "", "C": "file"}


def test_another_file_can_be_named_or_none(tmp_path: Path) -> None:
    write(tmp_path, "A=file\n")
    (tmp_path / "other").write_text("A=other\n")
    for named, expected in (("other", "other"), ("off", None), ("", "file")):
        environ = {ENV_FILE: named}
        load_env_file(environ, tmp_path)
        assert environ.get("A") == expected
    with pytest.raises(EnvFileError, match="missing cannot be read"):
        load_env_file({ENV_FILE: "missing"}, tmp_path)


@pytest.mark.parametrize("module", ["serving", "training", "monitoring", "loadtests", "loadtests.bench"])
def test_every_command_reads_it_or_refuses(tmp_path: Path, module: str) -> None:
    path = write(tmp_path, "MARLOOP_INFERENCE_PORT='18080'\n")
    environ = {**os.environ, ENV_FILE: str(path)}
    command = [sys.executable, "-m", module, "--help"]
    found = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert found.returncode == 2
    assert f"error: {path}, line 1: the value of MARLOOP_INFERENCE_PORT has a quote" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_command_has_the_ports_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, f"MARLOOP_MODEL_STORE={tmp_path / 'store'}\nMARLOOP_INFERENCE_PORT=none\n")
    environ = {**os.environ, ENV_FILE: str(path)}
    command = [sys.executable, "-m", "serving", "deploy"]
    found = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert "MARLOOP_INFERENCE_PORT is 'none'; it must be a port" in found.stdout


def test_an_installation_that_is_no_clone_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line, "ROOT", Path("/venv/lib/python3.11/site-packages"))
    with pytest.raises(SystemExit) as end:
        command_line.start("training")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: Marloop works in a clone of its own: run `pip install -e .`")
