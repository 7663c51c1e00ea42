"""The parts that all commands share: their start, the terminal, options for folders, their end.

Commands read ``.env`` of the checkout, as docker compose and make do. Each of the three reads quotes, ``#``, ``$``,
``\\`` and blanks at the ends in a way of its own. So a line counts only if all of them read it alike. Otherwise it is
refused with its number.
"""

import errno
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console

from handlers.observe.settings import EnvironmentSettings
from serving.registry import ArchiveError, Registry
from serving.security.folders import FolderError, check_all
from serving.settings import ROOT, Folders, Settings
from serving.store.opening import open_at, open_registry

PathOrUrl = TypeVar("PathOrUrl", Path, str)
console = Console(highlight=False, soft_wrap=True)

PRIVATE = frozenset(
    {"serving", "monitoring"}
)  # programs whose files, and those of all they start, are the owner's alone
ENV_FILE = "MARLOOP_ENV_FILE"  # another path, relative to the checkout, or off
OFF = "off"
# A folder is no folder, or may not be written.
_UNUSABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})
_LINE = re.compile(r"(?:export )?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
# Characters that make or docker compose reads in a way of its own, and the words for it in an error.
_UNLIKE = {
    "'": "a quote, which docker compose takes away and make keeps",
    '"': "a quote, which docker compose takes away and make keeps",
    "`": "a quote, which shells run",
    "#": "a #, behind which make reads nothing",
    "$": "a $, which make and docker compose replace",
    "\\": "a backslash, which docker compose and make read differently",
}


def option(part: type[EnvironmentSettings], name: str) -> Any:
    """Return a command's option for a setting, with its variable, its lowest value and its description."""
    setting = part.settings()[name]
    callback = _from_checkout if isinstance(setting.default, Path) else None
    return typer.Option(envvar=setting.variable, min=setting.lowest, help=setting.description, callback=callback)


def _from_checkout(context: typer.Context, parameter: typer.CallbackParam, value: PathOrUrl) -> PathOrUrl:
    """Return a path, which starts in the checkout where a variable holds it, wherever the command is called."""
    source = context.get_parameter_source(str(parameter.name))
    if source is None or source.name != "ENVIRONMENT" or "://" in str(value):
        return value
    return type(value)(ROOT / value)


def _for_programs(context: typer.Context, value: bool) -> bool:
    """Send what is for people to standard error while a command runs whose JSON is for programs."""
    if value:
        console.stderr = True
        context.call_on_close(lambda: setattr(console, "stderr", False))
    return value


Store = Annotated[str, option(Settings, "model_store")]
Cache = Annotated[Path, option(Folders, "cache")]
Runs = Annotated[Path, option(Folders, "runs")]
STORE, CACHE, RUNS = str(Settings().model_store), Folders().cache, Folders().runs  # their defaults
Json = Annotated[
    bool,
    typer.Option("--json", callback=_for_programs, help="Print JSON, for programs; what else is said goes to stderr."),
]


def run(app: typer.Typer, program: str) -> None:
    """Run the command line of a program, such as ``serving``, as ``python -m`` calls it."""
    start(program)
    try:
        app(prog_name=f"python -m {program}")
    except (ModuleNotFoundError, OSError) as error:
        unforeseen(error)


def start(program: str) -> None:
    """Read the settings of the checkout's ``.env``, where the environment wins, and set the umask of a program.

    What a terminal's encoding does not have is written as ``\\xe4``: a name in a user's file ends no command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if "site-packages" in ROOT.parts:
            raise EnvFileError("Marloop works in a clone of its own: run `pip install -e .` there, with -e")
        load_env_file(os.environ, ROOT)
    except EnvFileError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None
    if program in PRIVATE:
        os.umask(0o077)


def telling(model: str) -> Callable[[str], None]:
    """Return a function that prints the steps of a model's work."""
    return lambda text: console.print(f"[bold]{model}[/bold]: {text}")


def settings() -> Settings:
    """Read the settings from the environment and check the folders that they name; a fault ends with exit code 1."""
    try:
        settings = Settings.from_environment(os.environ)
        check_all(settings)
    except (FolderError, ValueError) as error:
        fail(error)
    return settings


def registry() -> Registry:
    """Open the registry of the settings, to be read and changed; a fault ends with exit code 1."""
    chosen = settings()
    try:
        return open_registry(chosen)
    except ArchiveError as error:
        fail(error)


def registry_at(store: str) -> Registry:
    """Open the registry of the folder or URL of ``Store``; a fault ends with exit code 1."""
    try:
        return open_at(store)
    except ArchiveError as error:
        fail(error)


def fail(error: Exception | str, code: int = 1) -> NoReturn:
    """Print an error, and end with an exit code."""
    _print_error(error if isinstance(error, str) else sentence(error))
    raise typer.Exit(code) from None


def sentence(error: Exception) -> str:
    """Return an error in words; one about a file has its name, and the setting by which another folder is chosen."""
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes | Path):
        path = Path(os.fsdecode(error.filename))
        return f"{path}: {error.strerror}{_another_folder(path) if error.errno in _UNUSABLE else ''}"
    return str(error.args[0]) if len(error.args) == 1 else str(error) or type(error).__name__


def unforeseen(error: ModuleNotFoundError | OSError) -> NoReturn:
    """End with a sentence for what any command may meet: a package that is missing, a file that cannot be used.

    Raises:
        ModuleNotFoundError: of our own code, which has a fault.
    """
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if (ROOT / package).is_dir():
            raise error
        brings = "`pip install -e .` in the clone brings it, and an image of the direct host does without"
        _print_error(f"the package {package} is not installed here: {brings}")
    else:
        _print_error(sentence(error))
    raise SystemExit(1) from None


def _print_error(text: str) -> None:
    console.print("[red]error:[/red]", end=" ")
    console.print(text, markup=False)


def _another_folder(path: Path) -> str:
    """Return the way out where a path is in a folder that a setting names; empty for others."""
    for part in (Settings, Folders):
        chosen = part.from_environment(os.environ)
        for name, setting in part.settings().items():
            folder = getattr(chosen, name)
            if isinstance(setting.default, Path) and path.resolve().is_relative_to(folder.resolve()):
                return f": make it a folder that this user can write to, or name another one by {setting.variable}"
    return ""


class EnvFileError(ValueError):
    """The file cannot be read, or others would read a line of it differently; names the line."""


def load_env_file(environ: MutableMapping[str, str], root: Path) -> None:
    """Add the variables in a checkout's file to an environment; one that it has, even empty, stays as it is.

    Args:
        environ: changed in place.
        root: the checkout.

    Raises:
        EnvFileError: nothing was added.
    """
    if path := env_file_path(environ, root):
        for name, value in read_env_file(path).items():
            environ.setdefault(name, value)


def env_file_path(environ: Mapping[str, str], root: Path) -> Path | None:
    """Return the path of the file; None if there is none, or ``MARLOOP_ENV_FILE`` is ``off``."""
    named = environ.get(ENV_FILE, "")
    path = root / (named or ".env")
    return None if named == OFF or (not named and not path.is_file()) else path


def read_env_file(path: Path) -> dict[str, str]:
    """Read the variables in a file.

    Raises:
        EnvFileError: it is not there, is no text, or has a line that is refused.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvFileError(f"{path} cannot be read: {error}") from error
    values = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.startswith("#"):
            try:
                name, value = _assignment(line)
            except EnvFileError as error:
                raise EnvFileError(
                    f"{path}, line {number}: {error}. Write NAME=value with a value that make and docker compose read "
                    "alike, or set the variable in the environment"
                ) from error
            values[name] = value
        elif line.endswith(("\\", "\r")):  # a comment that goes on in the next line, to make
            raise EnvFileError(f"{path}, line {number}: it ends with {_ending(line)}")
    return values


def _assignment(line: str) -> tuple[str, str]:
    """Return the name and the value of a line; no error message has the value, which may be a secret."""
    if line.endswith("\r"):
        raise EnvFileError(f"it ends with {_ending(line)}")
    if line[0].isspace():
        raise EnvFileError("it begins with a blank")
    match = _LINE.fullmatch(line)
    if match is None:
        raise EnvFileError("it is no assignment NAME=value, with nothing beside the =")
    name, value = match.groups()
    for character, fault in _UNLIKE.items():
        if character in value:
            raise EnvFileError(f"the value of {name} has {fault}")
    if value != value.strip():
        raise EnvFileError(f"the value of {name} begins or ends with a blank, which make and docker compose differ in")
    if not value.isprintable():
        raise EnvFileError(f"the value of {name} has a control character")
    return name, value


def _ending(line: str) -> str:
    return "a carriage return, as files of Windows have it" if line.endswith("\r") else "a backslash"
