"""The operator's command, `plexus`: what it can be told, and how it answers."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping

import cni
from cni.cli import daemon, node
from cni.node import launcher
from cni.spec import versions
from cni.spec.errors import CNIError

log = logging.getLogger(__name__)

ABOUT = """\
Attach containers to networks through CNI plugins, as a container runtime does.

A pod of the manifests, with all of its networks (the first configuration in NETCONFPATH is every pod's network;
where that is plexus, its key `manifests` says where the pods are):
  plexus attach --pod NAMESPACE/NAME --netns PATH [-o json]
  plexus check  --pod NAMESPACE/NAME [--netns PATH]
  plexus detach --pod NAMESPACE/NAME [--netns PATH]

A namespace and one network of NETCONFPATH, as cnitool does it:
  plexus add    NETWORK NETNS
  plexus check  NETWORK NETNS
  plexus del    NETWORK NETNS
  plexus gc     NETWORK NETNS
  plexus status NETWORK NETNS

This node, where plexus is the runtime's plugin: what is attached, and what could not be undone;
remove what belongs to nobody who is alive.
  plexus status [-o json]
  plexus gc     [--dry-run]

A node of a cluster, from inside a container (plexus node --help tells more):
  plexus node install|run|status|daemon|uninstall

A daemon, which makes every call of a plugin quicker (plexus daemon --help tells more):
  plexus daemon

When CNI_COMMAND is set, which is how runtimes call plugins, this executable is the CNI plugin "plexus" instead.
"""

MORE = """\
environment:
  NETCONFPATH  the directory of network configurations (default /etc/cni/net.d)
  CNI_PATH     where plugins are, directories joined by : (with --pod, default /opt/cni/bin)
  CNI_ARGS     arguments for the plugins, KEY=VALUE joined by ; (with --pod, they say which pod it is)
  CAP_ARGS     values for the plugins' capabilities, one JSON object
  CNI_IFNAME   the interface to make (default eth0; with --pod, see --ifname)

Where check and del are given no CNI_ARGS or CAP_ARGS, they use those of add.
bridge, veth, ptp, host-local, static, passthru and plexus are built in: add, del and so on execute them only if
CNI_PATH has a file of that name, attach only if the plexus configuration lists them in `external`.

An error is one line on stderr, and exit status 1; a misused command line is exit status 2.

example:
  ip netns add vm
  plexus attach --pod default/vm --netns /run/netns/vm
  plexus detach --pod default/vm
"""

NETWORK = {
    "add": "attach NETNS to NETWORK, and print the result",
    "check": "check that everything is as add, or attach, left it",
    "del": "undo add; there may be nothing to undo",
    "gc": "delete EVERY attachment to NETWORK, of whatever namespace, whether it still lives or not. Without a network,"
    " remove what belongs to nobody who is alive, on all of this node",
    "status": "check that add would work; needs cniVersion 1.1.0, and finds nothing wrong with older configurations."
    " Without a network, tell what is attached on this node, and what could not be undone",
}
POD = {
    "attach": "attach a pod to the default network and all of its own, and print what was made",
    "detach": "undo attach; there may be nothing to undo",
}
OF_NODE = ("gc", "status")
"""Commands about all of the node, where no network is named."""
NODE = {"node": "install plexus on a node of a cluster, and keep it configured"}
POD_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def main(argv: list[str], socket: str = launcher.SOCKET) -> int:
    """Serve one command line, without the program's name; `socket` is the installation's. Return the exit status."""
    try:
        options = parse(argv, socket)
    except SystemExit as end:  # argparse has printed the help, the version, or what is wrong
        return int(end.code or 0)
    _configure_log(debug=options.debug)
    try:
        _find_command(options)(options, os.environ)
        return 0
    except CNIError as error:
        log.debug("this was raised:", exc_info=True)
        sys.stderr.write(f"plexus: {_one_line(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def parse(argv: list[str], socket: str = launcher.SOCKET) -> argparse.Namespace:
    """Read a command line. Raises SystemExit after printing help, version, or what is wrong."""
    parser = _parser(socket)
    options = parser.parse_args(argv)
    if options.command == "check" and not options.pod:
        if len(options.target) != 2:
            parser.error("check takes NETWORK and NETNS, or --pod NAMESPACE/NAME")
        options.network, options.netns = options.target
    elif options.command in OF_NODE and options.target:
        if len(options.target) != 2:
            parser.error(f"{options.command} takes NETWORK and NETNS, or neither")
        if options.command == "gc" and options.dry_run:
            parser.error("--dry-run is for all of the node: leave out NETWORK and NETNS")
        options.network, options.netns = options.target
    elif options.command == "check" and options.target:
        parser.error("check takes NETWORK and NETNS, or --pod NAMESPACE/NAME, not both")
    return options


def _parser(socket: str) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="plexus", usage="plexus COMMAND ...", description=ABOUT, epilog=MORE, formatter_class=raw
    )
    spoken = f"plexus {cni.__version__} (CNI {versions.SUPPORTED[0]} to {versions.CURRENT})"
    parser.add_argument("--version", action="version", version=spoken)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands", prog="plexus")
    for name, about in (POD | NETWORK).items():
        command = commands.add_parser(name, help=about, description=about, epilog=MORE, formatter_class=raw)
        _add_arguments(name, command)
    for name, about in NODE.items():
        command = commands.add_parser(name, help=about, description=node.ABOUT, epilog=node.MORE, formatter_class=raw)
        node.add_arguments(command)
        _add_debug(command)
    about = "serve the launchers of this installation"
    command = commands.add_parser(
        "daemon", help=about, description=daemon.ABOUT, epilog=daemon.MORE, formatter_class=raw
    )
    daemon.add_arguments(command, socket)
    _add_debug(command)
    return parser


def _add_arguments(name: str, command: argparse.ArgumentParser) -> None:
    if name == "check":
        command.usage = "plexus check (NETWORK NETNS | --pod NAMESPACE/NAME) [options]"
        command.add_argument("target", nargs="*", metavar="NETWORK NETNS", help="as for add")
    elif name in OF_NODE:
        command.usage = f"plexus {name} [NETWORK NETNS] [options]"
        command.add_argument("target", nargs="*", metavar="NETWORK NETNS", help="as for add; without, of all the node")
        _add_output(command)
        if name == "gc":
            _add_gc_arguments(command)
    elif name in NETWORK:
        command.add_argument("network", metavar="NETWORK", help="the `name` of a configuration in NETCONFPATH")
        command.add_argument("netns", metavar="NETNS", help="the namespace, for example /run/netns/vm")
    if name in POD or name == "check":
        _add_pod_arguments(name, command)
    command.add_argument(
        "--cache-dir", metavar="DIR", default="/var/lib/cni", help="where results are kept (default %(default)s)"
    )
    _add_debug(command)


def _add_debug(command: argparse.ArgumentParser) -> None:
    command.add_argument("--debug", action="store_true", help="say more on stderr, with tracebacks")


def _add_pod_arguments(name: str, command: argparse.ArgumentParser) -> None:
    command.add_argument("--pod", metavar="NAMESPACE/NAME", type=_pod, required=name in POD, help="the pod")
    command.add_argument(
        "--netns",
        metavar="PATH",
        required=name == "attach",
        help="the pod's namespace" if name == "attach" else "the one given to attach, if the pod was attached twice",
    )
    command.add_argument("--ifname", default="eth0", help="the default network's interface (default %(default)s)")
    command.add_argument(
        "--container-id", metavar="ID", help="what plugins take the pod's container to be called (default: made up)"
    )
    if name == "attach":
        _add_output(command)


def _add_gc_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    command.add_argument(
        "--grace",
        metavar="SECONDS",
        type=_seconds,
        default=5.0,
        help="between two looks: who is dead both times is cleaned up after (default %(default)s)",
    )


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError(f'"{text}" is not between 0 and 3600')
    return number


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("-o", "--output", choices=("table", "json"), default="table", help="default %(default)s")


def _pod(text: str) -> str:
    if not POD_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f'"{text}" is not NAMESPACE/NAME')
    return text


def _find_command(options: argparse.Namespace) -> Callable[[argparse.Namespace, Mapping[str, str]], None]:
    if options.command in NODE:
        return node.run
    if options.command == "daemon":
        return daemon.run
    if options.command in POD or (options.command == "check" and options.pod):
        from cni.cli import pod

        return {"attach": pod.attach, "check": pod.check, "detach": pod.detach}[options.command]
    if options.command in OF_NODE and not options.target:
        from cni.cli import collect, state

        return collect.run if options.command == "gc" else state.status
    from cni.cli import network

    return network.run


def _configure_log(*, debug: bool) -> None:
    handler = logging.StreamHandler()
    if not debug:
        handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler])


class _OneLine(logging.Formatter):
    """The message and, instead of a traceback, what was raised."""

    def format(self, record: logging.LogRecord) -> str:
        raised = record.exc_info[1] if record.exc_info else None
        return f"plexus: {_one_line(f'{record.getMessage()}: {raised}' if raised else record.getMessage())}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
