"""A real S3 server for tests: moto's, in a process of its own that answers one request after another."""

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from serving.ports import free_ports
from tests.support.waiting import wait_until

# One request at a time, so that a condition and its write are one step, as they are on S3.
SERVER = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple(sys.argv[1], int(sys.argv[2]), DomainDispatcherApplication(create_backend_app), threaded=False)
"""
CREDENTIALS: Mapping[str, str] = MappingProxyType(
    {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
)


class S3Server:
    """A server with buckets that end with it."""

    def __init__(self, log: Path, address: str) -> None:
        (self._port,) = free_ports(1)
        self._log, self._address = log, address
        self.endpoint = f"http://{address}:{self._port}"
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": self.endpoint}
        self.start()

    def start(self) -> None:
        """Start it, without the buckets of an earlier start."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-c", SERVER, self._address, str(self._port)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, 60)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def client(self) -> Any:
        """A client of botocore."""
        from botocore.session import get_session

        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return get_session().create_client("s3", endpoint_url=self.endpoint, **keys)

    def bucket(self, name: str) -> str:
        """The URL of a new bucket's folder."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}/models"

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.endpoint, trust_env=False).status_code < 500
        return False


@contextlib.contextmanager
def s3_server(folder: Path, address: str = "127.0.0.1") -> Iterator[S3Server]:
    """A running server; skips where its package is missing."""
    for package in ("moto", "s3fs"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed: `pip install -e '.[dev]'` brings it")
    server = S3Server(folder / "s3.log", address)
    try:
        yield server
    finally:
        server.stop()
