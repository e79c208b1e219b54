"""The kernel and the modules of the throw-away machine: Debian's packages, unpacked into a cache directory."""

import lzma
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import filelock

KERNEL = "linux-image-amd64"
"""Debian's package that depends on the package of its current kernel."""
BUSYBOX = "busybox-static"
XZ = b"\xfd7zXZ\0"
MODULES = (
    *("crypto", "lib", "drivers/virtio", "fs/9p", "fs/fscache", "fs/netfs", "fs/overlayfs"),
    *("drivers/net/*.ko*", "drivers/net/bonding", "drivers/net/ipvlan", "drivers/net/vxlan"),
    *("net/802", "net/8021q", "net/9p", "net/bridge", "net/core", "net/ipv4", "net/ipv6", "net/llc", "net/netfilter"),
    *("net/netlink", "net/packet", "net/psample", "net/sched", "net/unix", "net/xfrm"),
)
"""What is kept of the kernel's modules: a network's, and what it takes to see this machine's files."""
DIRECTORIES = ("bin", "sbin", "dev", "proc", "sys", "share", "lower", "upper", "root")


class Unavailable(Exception):
    """There can be no machine here; the text says why, and what to do."""


@dataclass(frozen=True)
class Image:
    """What qemu boots."""

    directory: Path

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def modules(self) -> Path:
        """A cpio archive with the modules, and with the one program that loads them."""
        return self.directory / "modules.cpio"

    @property
    def busybox(self) -> Path:
        return self.directory / "busybox"


def ensure() -> Image:
    """The image, made where it is missing, which takes some 5 seconds. Raises Unavailable."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"the machine for tests is x86-64, this one is {platform.machine()}")
    cache = _cache()
    with filelock.FileLock(cache / "lock"):
        made = sorted(path.parent for path in cache.glob("linux-image-*/complete"))
        return Image(made[-1] if made else _make(cache))


def _cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plexus-tests" / "vm"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _make(cache: Path) -> Path:
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg") if not shutil.which(tool)]
    if missing:
        raise Unavailable(f"a kernel comes as a Debian package, and there is no {missing[0]}")
    package = _current_kernel()
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        unpacked, image = Path(scratch, "unpacked"), Path(scratch, "image")
        for name in (package, BUSYBOX):
            _unpack(_download(name, Path(scratch)), unpacked)
        _assemble(unpacked, image)
        (image / "complete").touch()
        return image.rename(cache / package)


def _current_kernel() -> str:
    """The package that KERNEL depends on: linux-image-<release>."""
    shown = _run("apt-cache", "show", "--no-all-versions", KERNEL)
    depends = next((line for line in shown.splitlines() if line.startswith("Depends: linux-image-")), "")
    if not depends:
        raise Unavailable(f"apt knows no {KERNEL} that depends on a kernel: is this Debian?")
    return depends.split()[1].rstrip(",")


def _download(package: str, directory: Path) -> Path:
    _run("apt-get", "download", package, cwd=directory)
    return next(directory.glob(f"{package}_*.deb"))


def _unpack(package: Path, directory: Path) -> None:
    _run("dpkg", "-x", str(package), str(directory))


def _assemble(unpacked: Path, image: Path) -> None:
    """Make what qemu boots of the unpacked packages."""
    made, root = Image(image), unpacked.with_name("root")
    image.mkdir()
    shutil.copy(next(unpacked.glob("**/bin/busybox")), made.busybox)
    made.kernel.write_bytes(_uncompressed(next(unpacked.glob("boot/vmlinuz-*")).read_bytes()))
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    shutil.copy(made.busybox, root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    (root / "sbin" / "modprobe").symlink_to("../bin/busybox")
    _place_modules(next(path for path in unpacked.glob("**/lib/modules/*") if path.is_dir()), made.busybox, root)
    archive(made.busybox, root, sorted(str(path.relative_to(root)) for path in root.rglob("*")), made.modules)


def _place_modules(source: Path, busybox: Path, root: Path) -> None:
    target = root / "lib" / "modules" / source.name
    for pattern in MODULES:
        for found in source.glob(f"kernel/{pattern}"):
            for module in found.rglob("*.ko*") if found.is_dir() else [found]:
                _place(module, target / module.relative_to(source))
    shutil.copy(source / "modules.builtin", target)
    _run(str(busybox), "depmod", "-b", str(root), source.name)


def _place(module: Path, target: Path) -> None:
    """Copy a module, unpacked: newer releases of Debian compress them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if module.suffix == ".xz":
        target.with_suffix("").write_bytes(lzma.decompress(module.read_bytes()))
    else:
        shutil.copy(module, target)


def _uncompressed(kernel: bytes) -> bytes:
    """The ELF file in the kernel's: this machine unpacks it in a second, the emulated one would take five."""
    start = kernel.find(XZ)
    if start < 0:
        return kernel  # compressed otherwise: let it unpack itself
    return lzma.LZMADecompressor().decompress(kernel[start:])


def archive(busybox: Path, root: Path, names: list[str], target: Path) -> None:
    """Append a cpio archive of files below `root` to `target`, as the kernel takes its first file system."""
    with target.open("ab") as file:
        listing = "\n".join(names).encode()
        command = [str(busybox), "cpio", "-o", "-H", "newc"]
        subprocess.run(command, cwd=root, input=listing, stdout=file, stderr=subprocess.DEVNULL, check=True)


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # apt's packages may be newer than its lists.
        hint = " (try `apt-get update`)" if command[0].startswith("apt") else ""
        raise Unavailable(f"`{' '.join(command)}` failed{hint}: {done.stderr.strip()}")
    return done.stdout
