"""Call a plugin, ours or an installed one, as a runtime does: environment and stdin in, streams and status out."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni.plugin import skel

ROOT = Path(__file__).parents[2]
LAUNCH = "import sys; sys.path.insert(0, sys.argv[1]); from cni.plugin import skel; sys.exit(skel.main(sys.argv[2]))"
REFERENCE = Path(os.environ.get("CNI_REFERENCE_DIR", "/usr/lib/cni"))
"""Where the reference plugins are, as Debian's containernetworking-plugins puts them."""


@dataclass(frozen=True)
class Answer:
    """What a plugin gave back."""

    rc: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The result, or the error object."""
        data: dict[str, Any] = json.loads(self.stdout)
        return data


Call = Callable[[str, Mapping[str, str], bytes], Answer]


def in_process(plugin: str, environ: Mapping[str, str], stdin: bytes) -> Answer:
    stdout, stderr = io.StringIO(), io.StringIO()
    rc = skel.run(plugin, environ, io.BytesIO(stdin), stdout, stderr)
    return Answer(rc, stdout.getvalue(), stderr.getvalue())


def as_process(plugin: str, environ: Mapping[str, str], stdin: bytes) -> Answer:
    return _run([sys.executable, "-I", "-c", LAUNCH, str(ROOT), plugin], environ, stdin)


def reference(plugin: str, environ: Mapping[str, str], stdin: bytes) -> Answer:
    return _run([str(REFERENCE / plugin)], environ, stdin)


def _run(command: list[str], environ: Mapping[str, str], stdin: bytes) -> Answer:
    process = subprocess.run(command, input=stdin, env=dict(environ), capture_output=True, check=False, timeout=60)
    return Answer(process.returncode, process.stdout.decode(), process.stderr.decode())


def environment(command: str, container_id: str = "c1", ifname: str = "eth0", args: str = "") -> dict[str, str]:
    """The variables of a call; the namespace is nowhere, since IPAM does not enter it."""
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": "/nonexistent/ns",
        "CNI_IFNAME": ifname,
        "CNI_ARGS": args,
        "CNI_PATH": "/x",
    }
