"""Become a part of the service: ``python -I serving/supervision/part.py FILE``, what its supervisor calls.

The file has the command and the environment of whoever started it last, so that neither passes through the quoting of a
configuration. It alone may read it, since an environment can hold secrets. Nothing but the standard library is loaded.
"""

import json
import os
import sys
from pathlib import Path


def become(file: Path) -> None:
    """Replace this process by the part's command; returns only by an error."""
    part = json.loads(file.read_bytes())
    os.chdir(part["folder"])
    os.execve(part["command"][0], part["command"], part["environment"])


if __name__ == "__main__":
    become(Path(sys.argv[1]))
