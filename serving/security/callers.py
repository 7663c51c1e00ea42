"""Origin of a request: this machine or another, a program or a page of another site."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str | None) -> bool:
    """Tell whether a name or address is this machine's alone."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def hostname(host: str) -> str:
    """Return a ``Host`` header's name or address in lower case, without its port; empty if it is no such header.

    A server may join two such headers with a comma; no name has one, so that the result is empty.
    """
    if set(host) & set(", \t/@\\?#%") or not host.isascii():
        return ""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname or "" if parts.port != 0 else ""
    except ValueError:
        return ""


def is_foreign_page(origin: str | None, host: str, fetch_site: str | None = None) -> bool:
    """Tell whether a page of another site sent a request, by the headers of its browser.

    Args:
        origin: header of that name (the Fetch standard, "Origin header").
        host: header of that name.
        fetch_site: header ``Sec-Fetch-Site``; ``none`` where a person typed the URL.
    """
    if fetch_site not in (None, "same-origin", "none"):
        return True
    return origin is not None and urlsplit(origin).netloc != host
