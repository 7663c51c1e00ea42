"""A bill of materials (CycloneDX 1.5) for scanners: packages of Python and Debian, and TorchServe's jar.

    docker compose run --rm --no-deps exporter marloop sbom > sbom.json
    trivy sbom sbom.json

TorchServe's jar holds its Java libraries unpacked, so that scanners of files do not recognize them. Only netty names
its version there.
"""

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import quote, unquote

NETTY = "META-INF/io.netty.versions.properties"


def bill_of_materials(jar: Path) -> str:
    """Return the document; ``jar`` is TorchServe's frontend."""
    urls = sorted({*python_packages(distributions()), *debian_packages(), *java_libraries(jar)})
    components = [component(url) for url in urls]
    document = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}
    return json.dumps(document, indent=1)


def component(url: str) -> dict[str, str]:
    """Return the entry of a package URL (the purl specification)."""
    path, _, version = url.partition("?")[0].partition("@")
    name = unquote(path.rpartition("/")[2])
    return {"type": "library", "name": name, "version": unquote(version), "purl": url, "bom-ref": url}


def python_packages(installed: Iterable[Distribution]) -> Iterator[str]:
    """Yield the URLs of installed packages."""
    for package in installed:
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
        yield f"pkg:pypi/{name}@{quote(package.version)}"


def debian_packages() -> Iterator[str]:
    """Yield the URLs of Debian's packages; none on a system without them."""
    if shutil.which("dpkg-query") is None:
        return
    form = "${Package} ${Version} ${Architecture} ${source:Package}\n"
    listed = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name, version, architecture, source = line.split()
        yield f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}&upstream={quote(source)}"


def java_libraries(jar: Path) -> Iterator[str]:
    """Yield the URLs of netty's parts in TorchServe's jar."""
    with zipfile.ZipFile(jar) as archive:
        versions = archive.read(NETTY).decode()
    for name, version in re.findall(r"^([\w.-]+)\.version=(\S+)$", versions, re.MULTILINE):
        yield f"pkg:maven/io.netty/{name}@{version}"
