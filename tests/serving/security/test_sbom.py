import json
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.__main__ import app
from serving.security.sbom import NETTY, bill_of_materials


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    path = tmp_path / "model-server.jar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(NETTY, "#x\nnetty-codec-http.version=4.1.53.Final\nnetty-codec-http.commitDate=2020\n")
    return path


def test_it_lists_packages_of_python_and_what_torchserves_jar_tells(jar: Path) -> None:
    document = json.loads(bill_of_materials(jar))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    found = {one["purl"]: one for one in document["components"]}
    assert found["pkg:maven/io.netty/netty-codec-http@4.1.53.Final"]["version"] == "4.1.53.Final"
    assert f"pkg:pypi/msgspec@{version('msgspec')}" in found
    assert len(found) == len(document["components"])
    assert all(one["name"] and one["version"] and one["type"] == "library" for one in found.values())


def test_the_command_prints_nothing_else() -> None:
    printed = CliRunner().invoke(app, ["sbom"])
    assert printed.exit_code == 0
    assert "pkg:maven/io.netty/netty-codec-http@4.1.53.Final" in {
        one["purl"] for one in json.loads(printed.stdout)["components"]
    }
