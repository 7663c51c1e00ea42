"""Who may ask the inference port: it depends on the address, on the API keys and on ``MARLOOP_OPEN``.

This machine may ask without a key until there is one. Where others reach the port, the direct host needs keys, unless
``MARLOOP_OPEN`` says otherwise. A key that is there is always asked for.
"""

from serving.security.callers import is_loopback
from serving.security.keys import KeyFileError, key_file
from serving.settings import Settings


def needs_keys(settings: Settings) -> bool:
    """Tell whether a request needs an API key even where no key was ever added."""
    return not settings.open and not is_loopback(settings.public_address)


def why_closed(settings: Settings) -> str:
    """Return why the direct host may not start at its address, and the way out; empty where it may."""
    if not needs_keys(settings):
        return ""
    try:
        if key_file(settings).read():
            return ""
    except KeyFileError as error:
        return str(error)
    address = settings.public_address
    return (
        f"others can reach the inference port at {address}, and no API key guards it: "
        "`marloop keys add NAME` makes one, or MARLOOP_OPEN=on lets everybody in"
    )


def audience(settings: Settings) -> str:
    """Return a sentence that says who may ask the inference port."""
    address, has_keys = settings.public_address, settings.host == "direct"
    who = "this machine alone" if is_loopback(address) else f"everybody who reaches {address}"
    try:
        keys = key_file(settings).read() if has_keys else None
    except KeyFileError as error:
        return f"the inference port answers nobody: {error}"
    if keys is not None or (has_keys and needs_keys(settings)):
        return f"the inference port answers {who}, with an API key"
    if is_loopback(address):
        return f"the inference port answers {who}, without an API key"
    if has_keys:
        return f"the inference port answers {who}, without an API key: MARLOOP_OPEN is on"
    proxy = "put a proxy before it, such as deploy/gateway"
    title = {"torchserve": "TorchServe", "ray": "the Ray host"}[settings.host]
    return f"warning: the inference port answers {who}, and {title} cannot ask for API keys: {proxy}"
