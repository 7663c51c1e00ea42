"""Load from `wrk <https://github.com/wg/wrk>`_, one thread, a rotating set of bodies.

wrk corrects its latencies for the requests that a stalled connection did not send ("coordinated omission"), so that a
slow answer weighs as it would for clients that keep coming.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

PATIENCE = 10  # s until an answer counts as missing
_MARK = "measured: "
_SCRIPT = """
local bodies = {
%(bodies)s
}
local headers = {%(headers)s}
local requests, i = {}, 0
function init()
  for n, body in ipairs(bodies) do requests[n] = wrk.format("%(method)s", nil, headers, body) end
end
function request()
  i = i %% #requests + 1
  return requests[i]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '%(mark)s{"requests": %%d, "seconds": %%.6f, "refused": %%d, "lost": %%d, ' ..
    '"p50": %%.4f, "p90": %%.4f, "p99": %%.4f, "worst": %%.4f}\\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
"""


class WrkError(Exception):
    """wrk is missing, or could not measure."""


class Load(msgspec.Struct, frozen=True):
    """The measurements of one run.

    Attributes:
        requests: number that were answered, whatever the status.
        seconds: duration of the run.
        refused: number of these with a status of 400 or more.
        lost: connections refused or broken, and answers that did not come within ``PATIENCE``.
        p50: latency in ms; likewise ``p90``, ``p99`` and ``worst``.
    """

    requests: int
    seconds: float
    refused: int
    lost: int
    p50: float
    p90: float
    p99: float
    worst: float

    @property
    def per_second(self) -> float:
        """Number of good answers a second."""
        return (self.requests - self.refused) / self.seconds

    @property
    def errors(self) -> int:
        """Number of requests without a good answer."""
        return self.refused + self.lost


def find() -> str:
    """Return the path of wrk.

    Raises:
        WrkError: wrk is not installed.
    """
    path = shutil.which("wrk")
    if path is None:
        raise WrkError("wrk, which makes the load, is not here: install it with `apt-get install wrk`")
    return path


def script(method: str, headers: Mapping[str, str], bodies: Sequence[bytes]) -> str:
    """Return the Lua script that sends the bodies in turn, and prints one line of JSON at the end."""
    return _SCRIPT % {
        "bodies": ",\n".join(f'"{_escaped(body)}"' for body in bodies),
        "headers": ", ".join(f'["{_escaped(k.encode())}"] = "{_escaped(v.encode())}"' for k, v in headers.items()),
        "method": method,
        "mark": _MARK,
    }


def parse(output: str) -> Load:
    """Read the measurement that ``script`` printed.

    Raises:
        WrkError: there is none.
    """
    lines = [line.removeprefix(_MARK) for line in output.splitlines() if line.startswith(_MARK)]
    if len(lines) != 1:
        raise WrkError(f"wrk printed no measurement:\n{output[-1000:]}")
    return msgspec.convert(json.loads(lines[0]), Load)


def run(url: str, path: Path, clients: int, seconds: float) -> Load:
    """Put load on a URL.

    Args:
        path: file of a script made by ``script``.
        clients: connections, each with one request at a time.
        seconds: rounded to whole ones, at least one.

    Raises:
        WrkError: wrk is missing or failed.
    """
    duration = max(1, round(seconds))
    command = [find(), "-t1", f"-c{clients}", f"-d{duration}s", f"--timeout={PATIENCE}s", "-s", str(path), url]
    process = subprocess.run(command, capture_output=True, text=True, timeout=duration + 2 * PATIENCE + 10)
    if process.returncode:
        raise WrkError(f"{' '.join(command)} failed: {process.stdout}{process.stderr}")
    return parse(process.stdout)


def _escaped(text: bytes) -> str:
    """Escape bytes for the inside of a Lua string."""
    return "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\{c:03d}" for c in text)
