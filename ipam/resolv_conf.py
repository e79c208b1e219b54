"""What a resolv.conf(5) says about name resolution."""

from __future__ import annotations

from cni.spec.result import DNS

COMMENTS = ("#", ";")


def parse(text: str) -> DNS:
    """Read its nameserver, domain, search and options lines; all others are passed over."""
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    domain = ""
    for line in text.split("\n"):
        keyword, *values = line.split() or [""]
        if not values or keyword.startswith(COMMENTS):
            continue
        if keyword == "nameserver":
            nameservers.append(values[0])
        elif keyword == "domain":
            domain = values[0]
        elif keyword == "search":
            search += values
        elif keyword == "options":
            options += values
    return DNS(nameservers=tuple(nameservers), domain=domain, search=tuple(search), options=tuple(options))
