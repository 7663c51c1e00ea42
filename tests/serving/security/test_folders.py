"""Folders with predictable names in shared places are ours alone, or refused."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from serving.__main__ import app
from serving.hosts.host import LaunchError
from serving.hosts.torchserve.launch import prepare
from serving.registry import Registry
from serving.security.folders import (
    FolderError,
    check_all,
    check_private,
    make_private,
    make_run_folder,
    readable_by_others,
    superusers,
)
from serving.settings import ROOT, Settings
from serving.supervision.supervisor import Supervisor
from tests.support.serving.stores import add

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make folders of other users")


def of_another(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chown(folder, NOBODY, NOBODY)


def link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(parents=True)
    folder.symlink_to(folder.parent / "elsewhere")


def open_to_all(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def file(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("", encoding="utf-8")


def in_a_parent_of_another(folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chown(folder.parent, NOBODY, NOBODY)


def in_a_parent_without_its_sticky_bit(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.parent.chmod(0o777)


WAYS = [
    pytest.param(of_another, "belongs to the user", marks=as_root),
    pytest.param(in_a_parent_of_another, "who can replace", marks=as_root),
    pytest.param(link, "is no folder but a symbolic link", id="link"),
    pytest.param(file, "is no folder but a file", id="file"),
    pytest.param(open_to_all, "every user can write into", id="open"),
    pytest.param(in_a_parent_without_its_sticky_bit, "every user can rename", id="parent"),
]


@pytest.mark.parametrize(("prepared", "fault"), WAYS)
def test_a_folder_that_is_not_ours_alone_is_refused(
    tmp_path: Path, prepared: Callable[[Path], None], fault: str
) -> None:
    folder = tmp_path / "shared" / "marloop-0123"
    prepared(folder)
    with pytest.raises(FolderError, match=fault):
        make_private(folder)
    with pytest.raises(FolderError, match=fault):
        check_private(folder)


def test_a_new_folder_and_one_of_ours_are_for_us_alone_whatever_the_umask(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir(mode=0o755)
    umask = os.umask(0)
    try:
        for folder in (ours, tmp_path / "new" / "folder"):
            make_private(folder)
            assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(umask)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_what_is_not_there_is_fine(tmp_path: Path) -> None:
    check_private(tmp_path / "nothing")


@as_root
@pytest.mark.parametrize("which", ["temporary", "metrics"])
def test_no_command_believes_what_another_user_put_there(
    settings: Settings, registry: Registry, which: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add(registry)
    monkeypatch.setattr(Settings, "metrics", property(lambda own: tmp_path / "metrics-of-all"))
    settings = replace(settings, metrics_dir=None)
    folder: Path = getattr(settings, which)
    of_another(folder)
    (folder / "models").mkdir()
    with pytest.raises(LaunchError, match=f"{folder} belongs to the user"):
        prepare(settings, {"PATH": os.environ["PATH"]})
    with pytest.raises(FolderError):
        check_all(settings)
    for command in ("up", "down", "status", "launch", "deploy"):
        result = CliRunner().invoke(app, [command], env=settings.to_environment(), catch_exceptions=False)
        assert result.exit_code == 1
        assert f"{folder} belongs to the user" in result.output
    if which == "temporary":
        with pytest.raises(FolderError):
            Supervisor(settings)._make_folders()
    assert (folder / "models").is_dir()  # and nothing of it was touched


@as_root
def test_a_folder_of_root_is_refused_by_another_user(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as shared:
        os.chmod(shared, 0o1777)
        folder = Path(shared) / "marloop-0123"
        folder.mkdir(mode=0o755)
        code = (
            "import os, sys; from serving.security.folders import make_private, FolderError; from pathlib import Path\n"
            f"os.setgid({NOBODY}); os.setuid({NOBODY})\n"
            "try: make_private(Path(sys.argv[1]))\n"
            "except FolderError as error: print(error)\n"
        )
        found = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert "belongs to the user root, whose code would run as ours" in found.stdout, found.stderr


def test_the_folder_of_a_run_is_tightened(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(mode=0o755)
    run.chmod(0o755)
    make_run_folder(run)
    assert run.stat().st_mode & 0o777 == 0o700


@as_root
def test_a_run_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    of_another(tmp_path / "run")
    with pytest.raises(FolderError, match="set MARLOOP_RUN_DIR"):
        make_run_folder(tmp_path / "run")


def test_what_others_can_read_is_told(settings: Settings, registry: Registry) -> None:
    add(registry)
    make_run_folder(settings.run_dir)
    own = [path for path in readable_by_others(settings) if path.name != ".env"]
    assert own == []
    registry.path.chmod(0o644)
    settings.run_dir.chmod(0o755)
    told = readable_by_others(settings)
    assert {registry.path, settings.run_dir} <= {*told}


@pytest.mark.parametrize("module", ["serving", "monitoring"])
def test_what_a_command_writes_is_private_whatever_the_umask(tmp_path: Path, module: str) -> None:
    code = (
        "import os, sys, typer; os.umask(0)\n"
        "from serving import command_line\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def write(module: str): open(os.environ['FILE'], 'w').write('x')\n"
        "command_line.run(app, sys.argv[1])\n"
    )
    environ = {**os.environ, "FILE": str(tmp_path / "log")}
    subprocess.run([sys.executable, "-c", code, module], cwd=ROOT, env=environ, check=True)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    text = (ROOT / module / "__main__.py").read_text()
    assert f'command_line.run(app, "{module}")' in text


@pytest.mark.parametrize(
    ("uid_map", "expected"),
    [("0 0 4294967295", {0}), ("1000 1000 1", {0, NOBODY}), ("0 1000 1\n1 100000 65536", {0}), (None, {0})],
)
def test_the_root_of_the_machine_is_known_in_a_namespace_without_it(
    tmp_path: Path, uid_map: str | None, expected: set[int]
) -> None:
    if uid_map:
        (tmp_path / "uid_map").write_text(uid_map)
    assert superusers(tmp_path / "uid_map") == expected
