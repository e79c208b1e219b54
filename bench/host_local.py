#!/usr/bin/env python3
"""What `host-local` costs as leases grow: ours in this process, as a process, with the daemon, and the reference.

Usage: python bench/host_local.py [RUNS [DIRECTORY…]]    in an environment that has plexus' dependencies

DIRECTORY holds reference plugins; without one, those of the distribution and those that the tests built are taken. Each
contender has a directory of its own with as many leases. In each run every contender does one ADD and one DEL, one
contender after the other, so that whatever else the machine does slows all of them; ratios are taken run by run. Shown
are medians, and of the ratios the quartiles.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cni.plugin import invoke
from cni.spec.request import Request

COUNTS = (0, 1_000, 10_000, 50_000)
RUNS = 31
REFERENCES = (Path("/usr/lib/cni"), Path.home() / ".cache/plexus-tests/reference-1.9.1")
LAUNCHER = """\
#!{python} -IS
import sys
sys.path.insert(0, {root!r})
from cni.node.launcher import main
raise SystemExit(main({name!r}, {socket!r}))
"""

Call = Callable[[str, str, Path], None]
"""(verb, container ID, directory of the leases)"""


@dataclass
class Contender:
    """Who serves a call, and the seconds that it took: one (ADD, DEL) for each run."""

    name: str
    call: Call
    measured: list[tuple[float, float]] = field(default_factory=list)

    def run(self, directory: Path, number: int) -> None:
        """Do one ADD and one DEL."""
        container_id = f"{number:064x}"
        begin = time.perf_counter()
        self.call("ADD", container_id, directory)
        middle = time.perf_counter()
        self.call("DEL", container_id, directory)
        self.measured.append((middle - begin, time.perf_counter() - middle))

    @property
    def sums(self) -> list[float]:
        """Seconds of ADD and DEL, run by run."""
        return [add + delete for add, delete in self.measured]


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    references = [Path(given) for given in sys.argv[2:]] or [found for found in REFERENCES if found.is_dir()]
    print(f"host-local, one range of a /8, {runs} runs each; milliseconds")  # noqa: T201
    empty: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(prefix="plexus-bench") as directory,
        contenders(Path(directory), references) as all_,
    ):
        for count in COUNTS:
            rebuilt = measure(all_, Path(directory), count, runs)
            show(all_, count, empty)
            print(f"        ours, first call after somebody else's: {rebuilt * 1000:.1f}")  # noqa: T201


def measure(contenders: list[Contender], directory: Path, count: int, runs: int) -> float:
    """Have all contenders work among `count` leases; seconds of a call of ours that finds somebody else was there."""
    folders = [directory / f"{number}-{count}" for number in range(len(contenders))]
    for folder, contender in zip(folders, contenders, strict=True):
        fill(folder / "net", count)
        contender.run(folder, 1 << 40)  # pays for imports, for the index, and for what is not in memory yet
        contender.measured.clear()
    for number in range(runs):
        for folder, contender in zip(folders, contenders, strict=True):
            contender.run(folder, (1 << 41) + number)
    (folders[0] / "net" / "somebody").touch()
    begin = time.perf_counter()
    contenders[0].call("DEL", "nobody", folders[0])
    return time.perf_counter() - begin


def show(contenders: list[Contender], count: int, empty: dict[str, float]) -> None:
    """Print what was measured; `empty` keeps what it took without leases."""
    references = [contender for contender in contenders if contender.name.startswith("/")]
    print(f"{count} leases")  # noqa: T201
    for contender in contenders:
        adds, deletes = zip(*contender.measured, strict=True)
        both = statistics.median(contender.sums)
        growth = both / empty.setdefault(contender.name, both)
        told = f"ADD {statistics.median(adds) * 1000:8.2f}  DEL {statistics.median(deletes) * 1000:8.2f}"
        ratios = "  ".join(ratio(contender, reference) for reference in references if contender not in references)
        print(f"  {contender.name:44} {told}  {growth:6.2f} x empty  {ratios}")  # noqa: T201


def ratio(ours: Contender, theirs: Contender) -> str:
    """The ratio of ADD and DEL together, run by run: median and quartiles."""
    ratios = [mine / other for mine, other in zip(ours.sums, theirs.sums, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return f"{middle:.4f} ({low:.4f} to {high:.4f}) x {theirs.name}"


@contextlib.contextmanager
def contenders(directory: Path, references: list[Path]) -> Iterator[list[Contender]]:
    """Those who are to be compared; ours in this process is the first."""
    alone, served = (install(directory / name) for name in ("alone", "served"))
    with daemon(served):
        yield [
            Contender("ours, in process", in_process),
            Contender("ours, whole process without the daemon", functools.partial(execute, alone)),
            Contender("ours, whole process with the daemon", functools.partial(execute, served)),
            *(Contender(str(path), functools.partial(execute, path)) for path in references),
        ]


def in_process(verb: str, container_id: str, directory: Path) -> None:
    """Call ours as a delegate does."""
    request = Request(command=verb, container_id=container_id, netns="/bench", ifname="eth0", path=("/bench",))
    invoke.call("host-local", request.with_conf(configuration(directory)))


def execute(plugins: Path, verb: str, container_id: str, directory: Path) -> None:
    """Call an executable as a runtime does."""
    environ = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": "/bench",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(plugins),
        "PATH": os.environ["PATH"],
    }
    stdin = json.dumps(configuration(directory)).encode()
    subprocess.run([plugins / "host-local"], env=environ, input=stdin, stdout=subprocess.DEVNULL, check=True)


def configuration(directory: Path) -> dict[str, object]:
    """A network whose leases are below the directory."""
    ipam = {"type": "host-local", "dataDir": str(directory), "subnet": "10.0.0.0/8"}
    return {"cniVersion": "1.0.0", "name": "net", "type": "bench", "ipam": ipam}


def fill(folder: Path, count: int) -> None:
    """Leases as a reference plugin leaves them: one address after the other."""
    folder.mkdir(parents=True)
    addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(2, 2 + count)]
    for number, address in enumerate(addresses):
        (folder / address).write_bytes(b"%064x\r\neth0" % number)
    if addresses:
        (folder / "last_reserved_ip.0").write_text(addresses[-1])


def install(directory: Path) -> Path:
    """Launchers like those that install.sh writes."""
    directory.mkdir()
    for name in ("plexus", "host-local"):
        path = directory / name
        socket = str(directory / "plexus.sock")
        path.write_text(LAUNCHER.format(python=sys.executable, root=sys.path[0], name=name, socket=socket))
        path.chmod(0o755)
    return directory


@contextlib.contextmanager
def daemon(launchers: Path) -> Iterator[None]:
    """Have the launchers' daemon run."""
    with subprocess.Popen([launchers / "plexus", "daemon"], stderr=subprocess.DEVNULL) as process:
        try:
            while not (launchers / "plexus.sock").exists():
                if process.poll() is not None:
                    sys.exit("the daemon did not start")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
