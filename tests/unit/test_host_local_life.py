"""host-local for as long as a directory lives: ours, the reference plugin and an operator by turns; some are killed.

Whatever happens, an address has one owner, DEL frees all that an attachment has, and the index says what leases say.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cni.spec.errors import CNIError, IOFailure, TryAgainLater
from cni.spec.request import Request
from ipam import host_local
from ipam.directory import DirectoryStore
from ipam.index import Index
from ipam.store import Owner

SUBNETS = ("10.0.0.0/29", "2001:db8::/125")
NAMES = [f"10.0.0.{number}" for number in range(2, 7)] + [f"2001:db8::{number}" for number in range(2, 8)]
OWNERS = [Owner("c1", "eth0"), Owner("c1", "net1"), *(Owner(f"c{number}", "eth0") for number in range(2, 6))]
LATEST_DEATH = 24
"""More changes to the disk than any call makes."""


class Killed(BaseException):
    """The process is no more: nothing that it still does reaches the disk."""


class Death:
    """Lets a number of changes to the disk happen, half of the next write, and then none, not even in a `finally`.

    With `error` one change alone fails, before or after it has been made, and nobody dies.
    """

    WRITES = ("write", "pwrite")
    CHANGES = ("link", "unlink", "rename", "utime", "ftruncate", "mkdir", *WRITES)
    CREATING = os.O_CREAT | os.O_TRUNC

    def __init__(self, after: int, error: OSError | None = None, *, is_late: bool = False) -> None:
        self.left = after
        self.error = error
        self.is_late = is_late
        self.has_come = False

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            for name in self.CHANGES:
                patched.setattr(os, name, self._counting(getattr(os, name)))
            patched.setattr(os, "open", self._counting(os.open, is_open=True))
            with contextlib.suppress(Killed):
                yield

    def _counting(self, call: Any, *, is_open: bool = False) -> Any:
        def counting(*args: Any, **kwargs: Any) -> Any:
            if is_open and not (args[1] & self.CREATING):
                return call(*args, **kwargs)
            self.left -= 1
            if self.left >= 0 or (self.error and self.has_come):
                return call(*args, **kwargs)
            if not self.has_come:
                self._come(call, args, kwargs)
            raise self.error or Killed

        return counting

    def _come(self, call: Any, args: Any, kwargs: Any) -> None:
        self.has_come = True
        if self.is_late:
            call(*args, **kwargs)
        elif call.__name__ in self.WRITES:
            descriptor, content, *rest = args
            call(descriptor, content[: len(content) // 2], *rest)


class Reference:
    """What the reference plugin does to the directory; the lock is not needed where nobody else is awake."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, owner: Owner, name: str, content: bytes | None = None) -> bool:
        """Reserve one address, as an ADD does for each range set; killed at once it writes no `content`."""
        try:
            with (self.folder / name).open("xb") as file:
                file.write(f"{owner.container_id}\r\n{owner.ifname}".encode() if content is None else content)
        except FileExistsError:
            return False
        (self.folder / f"last_reserved_ip.{0 if '.' in name else 1}").write_text(name)
        return True

    def delete(self, owner: Owner) -> None:
        for path in self.folder.iterdir():
            if path.read_bytes().strip() == f"{owner.container_id}\r\n{owner.ifname}".encode():
                path.unlink()


def call(folder: Path, verb: str, owner: Owner, **conf: Any) -> Any:
    ipam = {"type": "host-local", "dataDir": str(folder.parent), "ranges": [[{"subnet": subnet}] for subnet in SUBNETS]}
    request = Request(
        command=verb,
        container_id=owner.container_id,
        ifname=owner.ifname,
        conf={"cniVersion": "1.1.0", "name": folder.name, "ipam": ipam} | conf,
    )
    return {"ADD": host_local.add, "DEL": host_local.delete, "CHECK": host_local.check, "GC": host_local.gc}[verb](
        request
    )


def leases(folder: Path) -> dict[str, Owner | None]:
    """What the files say, read without any of our code."""
    found = {}
    for path in folder.iterdir():
        if path.name[0].isdigit():
            container_id, _, ifname = path.read_bytes().decode().partition("\r\n")
            found[path.name] = Owner(container_id, ifname) if container_id else None
    return found


def assert_the_index_says_what_the_leases_say(folder: Path) -> None:
    index, store, found = Index(str(folder)), DirectoryStore(str(folder)), leases(folder)
    with index.opened():
        if not index.vouches:
            return
        for owner in OWNERS:
            places = index.find(f"{owner.container_id}\r\n{owner.ifname}") or []
            assert {str(place) for place in places if store.owner(place) == owner} == held(found, owner)
        places = index.find("") or []
        assert {name for name, holder in found.items() if holder is None} <= set(map(str, places))


def held(found: dict[str, Owner | None], owner: Owner) -> set[str]:
    return {name for name, holder in found.items() if holder == owner}


class Directory(RuleBasedStateMachine):
    """A directory of two small range sets, and what the runtime believes of it."""

    @initialize()
    def create(self) -> None:
        self.parent = Path(tempfile.mkdtemp(prefix="plexus-leases-"))
        self.folder = self.parent / "net"
        self.folder.mkdir()
        self.reference = Reference(self.folder)
        self.given: dict[Owner, set[str]] = {}
        """By attachments that a runtime has successfully added and not deleted since."""

    def teardown(self) -> None:
        if hasattr(self, "parent"):
            shutil.rmtree(self.parent)

    @rule(owner=st.sampled_from(OWNERS))
    def add(self, owner: Owner) -> None:
        before = leases(self.folder)
        taken = {name for name, holder in before.items() if holder}
        is_full = any(taken >= {name for name in NAMES if mark in name} for mark in ".:")
        if held(before, owner) or is_full:
            with pytest.raises(TryAgainLater):
                call(self.folder, "ADD", owner)
            assert leases(self.folder).items() <= before.items(), "nothing is left of it"
            return
        result = call(self.folder, "ADD", owner)
        self.given[owner] = {str(ip.address.ip) for ip in result.ips}
        assert held(leases(self.folder), owner) == self.given[owner]
        assert not self.given[owner] & taken

    @rule(owner=st.sampled_from(OWNERS))
    def delete(self, owner: Owner) -> None:
        before = leases(self.folder)
        call(self.folder, "DEL", owner)
        self.given.pop(owner, None)
        assert leases(self.folder) == {name: holder for name, holder in before.items() if holder != owner}

    @rule(owner=st.sampled_from(OWNERS))
    def check(self, owner: Owner) -> None:
        found = held(leases(self.folder), owner)
        with contextlib.nullcontext() if found else pytest.raises(CNIError):
            call(self.folder, "CHECK", owner)

    @rule(valid=st.sets(st.sampled_from(OWNERS)))
    def collect_garbage(self, valid: set[Owner]) -> None:
        before = leases(self.folder)
        entries = [{"containerID": owner.container_id, "ifname": owner.ifname} for owner in valid]
        call(self.folder, "GC", OWNERS[0], **{"cni.dev/valid-attachments": entries})
        assert leases(self.folder) == {name: holder for name, holder in before.items() if holder in valid}
        self.given = {owner: names for owner, names in self.given.items() if owner in valid}

    @rule(owner=st.sampled_from(OWNERS), verb=st.sampled_from(["ADD", "DEL"]), after=st.integers(0, LATEST_DEATH))
    def be_killed(self, owner: Owner, verb: str, after: int) -> None:
        """A runtime does not know what became of it, so its next call is DEL; here it may wait."""
        with Death(after).awaited(), contextlib.suppress(TryAgainLater):
            call(self.folder, verb, owner)
        if verb == "DEL":
            self.given.pop(owner, None)

    @rule(owner=st.sampled_from(OWNERS), name=st.sampled_from(NAMES))
    def reference_add(self, owner: Owner, name: str) -> None:
        taken = name in leases(self.folder)
        if not held(leases(self.folder), owner):
            assert self.reference.add(owner, name) != taken

    @rule(owner=st.sampled_from(OWNERS))
    def reference_delete(self, owner: Owner) -> None:
        self.reference.delete(owner)
        self.given.pop(owner, None)

    @rule(name=st.sampled_from(NAMES))
    def reference_be_killed(self, name: str) -> None:
        self.reference.add(OWNERS[0], name, content=b"")

    @precondition(lambda self: any(self.given.values()))
    @rule(data=st.data())
    def operator_remove_a_lease(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from([owner for owner, names in self.given.items() if names]))
        name = data.draw(st.sampled_from(sorted(self.given[owner])))
        (self.folder / name).unlink()
        self.given[owner].discard(name)

    @invariant()
    def each_address_is_still_its_owners(self) -> None:
        found = leases(self.folder)
        for owner, names in self.given.items():
            assert names <= held(found, owner)

    @invariant()
    def the_index_says_what_the_leases_say(self) -> None:
        assert_the_index_says_what_the_leases_say(self.folder)


TestDirectory = Directory.TestCase
TestDirectory.settings = settings(derandomize=True, deadline=None, max_examples=60, stateful_step_count=40)


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
@pytest.mark.parametrize("is_indexed", [True, False])
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, "No space left on device")])
def test_a_call_that_is_killed_or_fails_at_any_change_is_made_good_by_del(
    verb: str, is_indexed: bool, error: OSError | None, is_late: bool, tmp_path: Path
):
    me, other, late = OWNERS[0], OWNERS[2], OWNERS[3]
    for after in range(LATEST_DEATH):
        folder = tmp_path / str(after)
        for owner in (other, *([me] if verb == "DEL" else [])):
            call(folder, "ADD", owner)
        if not is_indexed:
            (tmp_path / f".{after}.index").unlink()
        death = Death(after, error, is_late=is_late)
        with death.awaited(), contextlib.suppress(IOFailure):
            call(folder, verb, me)

        assert_the_index_says_what_the_leases_say(folder)
        call(folder, "DEL", me)
        call(folder, "ADD", late)

        found = leases(folder)
        assert set(found.values()) == {other, late}
        assert len(found) == 2 * len(SUBNETS)
        assert_the_index_says_what_the_leases_say(folder)
        if not death.has_come:
            return
    pytest.fail(f"a call makes more than {LATEST_DEATH} changes")
