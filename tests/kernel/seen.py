"""All processes of the machine but its first, which a machine that tests run on may hide from them."""

import os
import tempfile

from cni.linux import living
from cni.spec.errors import KernelFailure

LOOK = living.network_namespaces


def network_namespaces() -> dict[int, str]:
    try:
        return LOOK()
    except KernelFailure:
        pass
    with tempfile.TemporaryDirectory() as directory:
        for name in os.listdir("/proc"):
            if name.isdecimal() and name != "1":
                os.symlink(f"/proc/{name}", f"{directory}/{name}")
        return {inode: path.replace(directory, "/proc") for inode, path in LOOK(directory).items()}
