"""`plexus node ACTION`: install plexus on the host of a cluster's node, and keep it configured."""

from __future__ import annotations

import _thread
import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cni.spec.errors import InvalidConfiguration

if TYPE_CHECKING:
    from cni.node.host import Host
    from cni.node.host_token import HostToken
    from cni.node.layout import Layout
    from cni.node.plan import Plan
    from cni.node.prefix import Prefix

log = logging.getLogger(__name__)

ABOUT = "install plexus on the host of a node, and make it the runtime's plugin; what the DaemonSet runs"
MORE = """\
actions:
  install    copy plexus and its launchers to the host, write the kubeconfig and the runtime's entry, and end
  run        the same, and keep all of it right until SIGTERM, which leaves everything in place
  status     say what is installed; fail unless the runtime uses it
  daemon     have the daemon of what is installed run in the host's namespaces, until SIGTERM; for a privileged
             container with hostPID
  uninstall  take everything back: the runtime uses the primary again

Paths are the host's. The primary is the first configuration in --conf-dir that is not a meta plugin's; the entry,
00-plexus.conflist, has it as its first delegate. Without --bin-dir and --conf-dir, the distribution's are used:
kubeadm, k3s, rke2, microk8s and talos are told apart.
"""
DISTRIBUTIONS = ("auto", "kubeadm", "k3s", "rke2", "microk8s", "talos")
STATE_DIR = "/var/lib/cni/plexus"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the parser what the command takes."""
    parser.add_argument("action", choices=tuple(ACTIONS), metavar="ACTION")
    paths = parser.add_argument_group("the host")
    paths.add_argument(
        "--host-root", metavar="DIR", default="/", help="where we see the host's / (default %(default)s)"
    )
    paths.add_argument("--prefix", metavar="DIR", default="/opt/plexus", help="plexus itself (default %(default)s)")
    paths.add_argument("--bin-dir", metavar="DIR", default="", help="where the runtime looks for plugins")
    paths.add_argument("--conf-dir", metavar="DIR", default="", help="where the runtime looks for configurations")
    paths.add_argument("--state-dir", metavar="DIR", default=STATE_DIR, help="`cniDir` (default %(default)s)")
    paths.add_argument("--distribution", choices=DISTRIBUTIONS, default="auto", help="default %(default)s")
    _add_entry_arguments(parser.add_argument_group("the entry"))
    launchers = parser.add_argument_group("launchers")
    launchers.add_argument(
        "--replace", action="store_true", help="of bridge, host-local and so on too, where others are"
    )
    launchers.add_argument(
        "--as-multus",
        action="store_true",
        help="be `multus` too, and set aside configurations of Multus that come first",
    )
    _add_daemon_arguments(parser.add_argument_group("the daemon"))
    parser.add_argument("--force", action="store_true", help="uninstall although containers are attached")
    parser.add_argument("--stay", action="store_true", help="do not end after uninstalling, until SIGTERM")


def _add_entry_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--primary", metavar="NAME", default="", help="the primary's file (default: the first)")
    group.add_argument("--network-name", metavar="NAME", default="multus-cni-network", help="default %(default)s")
    group.add_argument(
        "--settings",
        metavar="FILE",
        default="",
        help="a JSON object of more keys for plexus; our path, read when it changes",
    )
    group.add_argument(
        "--kubeconfig",
        metavar="FILE",
        default="",
        help="the host's kubeconfig to use (default: one made of the service account)",
    )
    group.add_argument("--api-server", metavar="URL", default="", help="for it (default: the service `kubernetes`)")
    group.add_argument(
        "--service-account", metavar="DIR", default="/var/run/secrets/kubernetes.io/serviceaccount", help="our path"
    )


def _add_daemon_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--check", action="store_true", help="only tell whether it answers launchers, by the exit status"
    )
    group.add_argument(
        "--daemon-option",
        metavar="OPTION",
        dest="daemon_options",
        action="append",
        default=[],
        help="of `plexus daemon`, such as --daemon-option=--slots=8; may be given several times",
    )


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Serve one of the actions. Raises CNIError."""
    os.umask(0o022)
    ACTIONS[options.action](options, environ)


def _install(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    from cni.node.agent import Agent

    Agent(_installed(options, environ)).step()


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    from cni.node.agent import Agent

    stop = _stopped_by_signals()
    Agent(_installed(options, environ)).run(stop)


def _status(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    from cni.node import status

    plan = _plan(options, environ)
    sys.stdout.write(status.describe(plan, options.state_dir) + "\n")
    status.check(plan)


def _daemon(options: argparse.Namespace, _environ: Mapping[str, str]) -> None:
    from cni.node import keeper, launchers
    from cni.node.host import Host
    from cni.node.prefix import Prefix

    prefix = Prefix(Host(keeper.HOST_ROOT), options.prefix)
    if not options.check:
        keeper.keep(prefix, options.daemon_options, _stopped_by_signals())
        return
    path = launchers.socket(options.prefix)
    if not keeper.answers(prefix.host.local(path)):
        raise InvalidConfiguration(
            f'could not find a daemon at the host\'s "{path}"',
            "launchers do the work themselves; its log says why, and whether plexus is installed yet",
            id="PLX-DAEMON-ENDED",
        )


def _uninstall(options: argparse.Namespace, _environ: Mapping[str, str]) -> None:
    from cni.node import uninstall

    stop = _stopped_by_signals()
    prefix = _prefix(options)
    if uninstall.uninstall(prefix, options.state_dir, force=options.force):
        log.info('uninstalled plexus from "%s"', prefix.path)
    else:
        log.info('plexus is not installed in "%s": nothing changed', prefix.path)
    if options.stay:
        stop.wait()


ACTIONS: dict[str, Callable[[argparse.Namespace, Mapping[str, str]], None]] = {
    "install": _install,
    "run": _run,
    "status": _status,
    "daemon": _daemon,
    "uninstall": _uninstall,
}


def _installed(options: argparse.Namespace, environ: Mapping[str, str]) -> Plan:
    """The plan, with the environment and the launchers in place. Raises CNIError."""
    from dataclasses import replace
    from functools import partial

    from cni.node import bundle, install

    plan, bin_dir = _plan(options, environ), _layout(options, _host(options)).bin_dir
    with plan.prefix.locked():
        plan.prefix.ensure_directory(plan.conf_dir)
    source = bundle.find()
    if not source:
        log.info("this plexus has no interpreter of its own to bring: launchers are left to install.sh")
        return plan
    again = partial(install.install, source, plan.prefix, bin_dir, replace=options.replace, as_multus=options.as_multus)
    return replace(plan, launchers=again(), install=again)


def _plan(options: argparse.Namespace, environ: Mapping[str, str]) -> Plan:
    from cni.node import entry, kubeconfig
    from cni.node.plan import Plan

    layout = _layout(options, _host(options))
    account = None
    if not options.kubeconfig:
        account = kubeconfig.find(options.service_account, options.api_server, environ)
    plan = Plan(
        host=_host(options),
        prefix=_prefix(options),
        conf_dir=layout.conf_dir,
        settings=entry.Settings(
            name=options.network_name,
            bin_dir=layout.bin_dir,
            kubeconfig=options.kubeconfig,
            kubelet_dir=layout.kubelet_dir,
        ),
        settings_file=options.settings,
        primary=options.primary,
        as_multus=options.as_multus,
        account=account,
        token=_host_token(environ) if account else None,
    )
    return plan.with_own_kubeconfig() if account else plan


def _host_token(environ: Mapping[str, str]) -> HostToken | None:
    import time

    from cni.kube.connection import Connection
    from cni.node.host_token import Holder, HostToken

    holder = Holder.find(environ)
    return HostToken(Connection(), holder, time.monotonic) if holder else None


def _host(options: argparse.Namespace) -> Host:
    from cni.node.host import Host

    return Host(options.host_root)


def _prefix(options: argparse.Namespace) -> Prefix:
    from cni.node.prefix import Prefix

    return Prefix(_host(options), options.prefix)


def _layout(options: argparse.Namespace, host: Host) -> Layout:
    """The directories to use. Raises InvalidConfiguration when they are not there to be used."""
    from dataclasses import replace

    from cni.node import layout

    detected = layout.detect(host, layout.read_mounts())
    found = layout.find(options.distribution) if options.distribution != "auto" else detected or layout.KUBEADM
    conf_dir, bin_dir = options.conf_dir or found.conf_dir, options.bin_dir or found.bin_dir
    for path in (conf_dir, bin_dir):
        if not _is_mounted(host, path):
            told = f"this host looks like {detected.name}" if detected else "this host's distribution is not known"
            raise InvalidConfiguration(
                f'could not find the host\'s "{path}" below "{host.root}"',
                f"{told}: mount the directory there, or use the overlay of deploy/overlays for the distribution",
                id="PLX-NODE-PATHS",
            )
    if detected and detected.conf_dir != conf_dir:
        log.warning('this host looks like %s, whose configurations are in "%s"', detected.name, detected.conf_dir)
    return replace(found, conf_dir=conf_dir, bin_dir=bin_dir)


def _is_mounted(host: Host, path: str) -> bool:
    """Whether a directory is the host's: something of its path is there, so that the rest could be made."""
    top = "/".join(path.split("/")[:2])
    return host.root == "/" or os.path.isdir(host.directory(top))


def _stopped_by_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # By a thread: the one that is interrupted may be waiting for the event, and hold its lock just then.
        signal.signal(number, lambda *_: _thread.start_new_thread(stop.set, ()))
    return stop
