"""The environment of programs that we execute: our caller's, without what would make other programs of them."""

from __future__ import annotations

from collections.abc import Mapping

PREFIXES = ("LD_", "PYTHON", "PERL5", "RUBY", "BASH_FUNC_", "LISTEN_", "WATCHDOG_")
"""Of variables that load code into a program, or are for the process that systemd started alone."""
NAMES = frozenset(
    {
        "BASH_ENV",
        "ENV",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "IFS",
        "LOCPATH",
        "NODE_OPTIONS",
        "NOTIFY_SOCKET",
        "SHELLOPTS",
        "XTABLES_LIBDIR",
    }
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a program finds others, if nobody says so."""


def of_programs(caller: Mapping[str, str]) -> dict[str, str]:
    """What a program gets of its caller's variables; all others are none of our business, and pass."""
    kept = {name: value for name, value in caller.items() if not (name.startswith(PREFIXES) or name in NAMES)}
    return {**kept, "PATH": kept.get("PATH") or PATH}
