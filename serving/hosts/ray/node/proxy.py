"""``proxy.py HAPROXY …``: becomes the HAProxy of a node of Ray, with what Ray does not set.

- It is killed when the process that started it ends. Else it would hold its port without a cluster behind, and share
  connections with the next one.
- Its pages of statistics and metrics, which Ray binds to every address, are bound to loopback.

Only the standard library is loaded, since it starts anew whenever a replica comes or goes.
"""

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)


def private(config: str) -> str:
    """Return a configuration whose pages of statistics and metrics are bound to loopback."""
    pages = r"^((?:frontend prometheus|listen stats)\n\s*bind )\*?:(\d+)$"
    return re.sub(pages, r"\g<1>127.0.0.1:\2", config, flags=re.MULTILINE)


def main(program: str, *arguments: str) -> None:
    """Become the program."""
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        path.write_text(private(path.read_text(encoding="utf-8")), encoding="utf-8")
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
