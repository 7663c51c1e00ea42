"""``python -I serving/supervision/part.py FILE``: becomes a part of the service; its supervisor calls this.

The file has the command and the environment of the last start, so that neither passes through the quoting of a
configuration. Only its owner may read it, since an environment can hold secrets. Only the standard library is loaded.
"""

import json
import os
import sys
from pathlib import Path


def become(file: Path) -> None:
    """Replace this process by the part's command; return only by an error."""
    part = json.loads(file.read_bytes())
    os.chdir(part["folder"])
    os.execve(part["command"][0], part["command"], part["environment"])


if __name__ == "__main__":
    become(Path(sys.argv[1]))
