"""systemd's protocol, and the units that use it."""

import configparser
import contextlib
import os
import socket
from pathlib import Path
from threading import Thread

from cni.cli import command
from cni.node import launcher, systemd

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNITS / name)
    return parser


def test_without_systemd_no_socket_is_handed_over():
    assert systemd.sockets({}) == []


def test_sockets_for_another_process_are_left_alone():
    assert systemd.sockets({"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}) == []


def test_the_watchdog_is_ours_only_if_it_says_so():
    assert systemd.watchdog_seconds({}) == 0
    assert systemd.watchdog_seconds({"WATCHDOG_USEC": "3000000"}) == 3
    assert systemd.watchdog_seconds({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}) == 3
    assert systemd.watchdog_seconds({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid() + 1)}) == 0


def test_a_state_is_told_where_it_is_wanted(tmp_path: Path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(path)
        heard.settimeout(10)
        systemd.notify({"NOTIFY_SOCKET": path}, "READY=1")
        assert heard.recv(100) == b"READY=1"


def test_nobody_need_listen_to_a_state(tmp_path: Path):
    systemd.notify({}, "READY=1")
    systemd.notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, "READY=1")


def test_nobody_who_does_not_listen_is_waited_for(tmp_path: Path):
    path = str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller,
    ):
        deaf.bind(path)
        teller.connect(path)
        teller.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                teller.send(b"WATCHDOG=1")
        telling = Thread(target=systemd.notify, args=({"NOTIFY_SOCKET": path}, "WATCHDOG=1"), daemon=True)
        telling.start()
        telling.join(10)
        assert not telling.is_alive()


def test_the_units_socket_is_where_launchers_look():
    assert unit("plexus.socket")["Socket"]["ListenStream"] == launcher.SOCKET


def test_the_service_runs_a_command_that_there_is_and_is_waited_for():
    service = unit("plexus.service")["Service"]
    program, *arguments = service["ExecStart"].split()
    assert program.endswith("/bin/plexus")
    assert command.parse(arguments).command == "daemon"
    assert service["Type"] == "notify"


def test_the_service_stays_in_the_hosts_namespaces():
    own = ("Private", "Protect", "ReadOnly", "ReadWrite", "Inaccessible", "Temporary", "Root", "Bind", "DynamicUser")
    keys = unit("plexus.service")["Service"].keys()
    assert [key for key in keys if key.startswith(own)] == []


def test_the_service_keeps_what_attaching_takes_and_executed_plugins_may_need():
    """setns, netlink, reading other processes' namespaces, root's files, modules for iptables, BPF of others."""
    needed = {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "DAC_OVERRIDE", "DAC_READ_SEARCH", "CHOWN", "FOWNER"}
    needed |= {"SYS_CHROOT", "SYS_MODULE", "SYS_RESOURCE", "IPC_LOCK", "BPF", "MKNOD", "SETUID", "SETGID", "KILL"}
    service = unit("plexus.service")["Service"]
    taken = service["CapabilityBoundingSet"]
    assert taken.startswith("~")
    assert not {f"CAP_{name}" for name in needed} & set(taken.lstrip("~").replace("\\", " ").split())
    families = set(service["RestrictAddressFamilies"].split())
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"} <= families


def test_the_service_keeps_executed_plugins_from_nothing_that_they_have_without_the_daemon():
    """Domains of SELinux and capabilities of files, devices, setns(2), and code that is made while they run."""
    keys = ("NoNewPrivileges", "ProtectClock", "DevicePolicy", "DeviceAllow", "RestrictNamespaces", "ProcSubset")
    service = unit("plexus.service")["Service"]
    assert [key for key in (*keys, "MemoryDenyWriteExecute") if key in service] == []


def test_the_service_gives_up_what_nobody_needs():
    service = unit("plexus.service")["Service"]
    for key in ("LockPersonality", "RestrictRealtime", "RestrictSUIDSGID"):
        assert service[key] == "yes"
    assert service["SystemCallArchitectures"] == "native"
    assert service["SystemCallFilter"] == "~@clock @cpu-emulation @obsolete @raw-io @reboot @swap"
    assert service["UMask"] == "0077"
    assert {"CAP_SYS_BOOT", "CAP_SYS_TIME", "CAP_SYS_RAWIO", "CAP_SYSLOG"} <= set(
        service["CapabilityBoundingSet"].split()
    )
