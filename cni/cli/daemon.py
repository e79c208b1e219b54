"""`plexus daemon`: serve this installation's launchers, so that they need not start Python's libraries each time."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

ABOUT = "serve the plugins' launchers of this installation, until SIGTERM"
MORE = """\
Launchers ask it at its socket, and do the work themselves where it does not answer: nothing depends on it. When it
ends it serves those that wait first, and changes nothing but its socket. systemd may open the socket, and is told
when it is ready. It has to run in the host's network and mount namespaces; it declines launchers from elsewhere.
"""


def add_arguments(parser: argparse.ArgumentParser, socket: str) -> None:
    """Tell the parser what the command takes; `socket` is where this installation's launchers look for it."""
    parser.add_argument("--socket", metavar="PATH", default=socket, help="where to listen (default %(default)s)")
    parser.add_argument(
        "--slots", metavar="N", type=_positive, default=16, help="requests served at a time (default %(default)s)"
    )
    parser.add_argument(
        "--queue",
        metavar="N",
        type=_positive,
        default=1024,
        help="launchers that may wait for a slot; to more it says that they should be called later"
        " (default %(default)s)",
    )
    parser.add_argument(
        "--metrics",
        metavar="ADDRESS",
        default="",
        help="where Prometheus reads metrics: unix:/PATH, or a loopback address and a port (default: nowhere)",
    )
    parser.add_argument(
        "--clean-every",
        metavar="SECONDS",
        type=_not_negative,
        default=300,
        help="clean up after containers that died without a DEL, as `plexus gc` does, by the configuration in"
        " NETCONFPATH, or where the distribution has it; 0 is never (default %(default)s)",
    )


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Be the daemon. Raises InvalidConfiguration, IOFailure when it cannot begin."""
    from cni.node import daemon

    settings = daemon.Settings(
        socket=options.socket,
        slots=options.slots,
        capacity=options.queue,
        metrics=options.metrics,
        clean_every=options.clean_every,
    )
    daemon.run(settings, environ)


def _not_negative(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'"{text}" is negative')
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'"{text}" is not positive')
    return number
