"""Whoever is proven dead is cleaned up after, and nobody else is touched: by two looks, and when a network is full."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import subprocess
import time
from dataclasses import replace

import pytest
from machine import fail_at
from node_daemon import until
from plexus_node import KUBEVIRT, Node, links, rules
from seen import network_namespaces

from cni.linux import disk, kernel, living, netns
from cni.meta import reclaim
from cni.meta.reclaim import Reclaimer
from cni.plugin import files
from cni.plugin.ledger import Ledger
from cni.spec.errors import CNIError, InvalidConfiguration, KernelFailure, TryAgainLater


@pytest.fixture
def node(host, sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "kind", lambda _: "ext4")
    monkeypatch.setattr(reclaim, "GRACE", 0.0)
    monkeypatch.setattr(living, "network_namespaces", network_namespaces)
    made = Node(host, sandbox, tmp_path)
    made.run(KUBEVIRT)
    (tmp_path / "bin").mkdir()
    return made


def inside(node, work):
    return netns.run_inside(node.host.path, work)


def reclaimer(node):
    return Reclaimer.of(node.request("GC"))


def collect(node, wait=lambda _: None):
    """Who was cleaned up after."""
    outcomes = inside(node, lambda: reclaim.collect(reclaimer(node), 0, wait))
    return [outcome.finding.container for outcome in outcomes if outcome.removed]


def found(node):
    return [finding.container for finding in inside(node, lambda: reclaim.find(reclaimer(node), 0, lambda _: None))]


def ledger(node):
    return Ledger(str(node.directory / "state" / "containers"))


def die(node, sandbox):
    """Take the namespace away, and wait until the kernel has taken its interfaces."""
    before = len(links(node.host.path))
    subprocess.run(["ip", "netns", "del", sandbox.name], check=True)
    while len(links(node.host.path)) == before:
        time.sleep(0.02)


def lease_owners(node):
    files = (node.directory / "leases").rglob("[0-9]*")
    return sorted(path.read_bytes().decode().partition("\r\n")[0] for path in files)


@contextlib.contextmanager
def holding(*command):
    with subprocess.Popen([*command, "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1) as process:
        assert process.stdout.readline() == b"\n"
        yield process
        process.stdin.close()


def test_who_died_without_a_delete_is_cleaned_up_after_and_the_living_are_not(node, namespace):
    other = namespace("other")
    node.add()
    node.add(container_id="c2", netns=other.path)
    die(node, node.sandbox)

    assert found(node) == ["c1"]
    assert collect(node) == ["c1"]

    assert lease_owners(node) == ["c2", "c2"]
    assert [record.container_id for record in ledger(node).records()] == ["c2"]
    assert collect(node) == []
    node.delete(container_id="c2", netns=other.path)
    assert (lease_owners(node), rules(node.host.path)) == ([], [])


def test_what_a_killed_add_left_half_written_goes_though_no_record_names_it(node):
    state = node.directory / "state"
    left = [state / "containers" / ".c9@eth0.json.tmp", state / "network-status" / "default" / ".vm.json.tmp"]
    for clean_up in (collect, Node.collect):
        for path in left:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{")
        clean_up(node)
        assert [path for path in left if path.exists()] == []


def test_a_namespace_that_only_a_process_holds_lives(node):
    node.add()
    with holding("nsenter", f"--net={node.sandbox.path}"):
        subprocess.run(["ip", "netns", "del", node.sandbox.name], check=True)
        assert found(node) == []
        assert collect(node) == []


def test_a_namespace_that_only_a_descriptor_holds_lives():
    descriptor, who = _new_namespace()
    assert lives(who)
    os.close(descriptor)
    until(lambda: not lives(who))


def test_a_namespace_that_is_mounted_in_another_mount_namespace_lives(tmp_path):
    descriptor, who = _new_namespace()
    (tmp_path / "here").write_text("")
    mount = f"mount --bind /proc/{os.getpid()}/fd/{descriptor} {tmp_path}/here && echo && exec cat"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", mount], stdin=-1, stdout=-1) as process:
        assert process.stdout.readline() == b"\n"
        os.close(descriptor)
        assert lives(who)
        process.stdin.close()
    until(lambda: not lives(who))


def test_a_namespace_that_only_a_thread_is_in_lives(node):
    descriptor, who = _new_namespace()

    def look():
        os.close(descriptor)
        return lives(who)

    assert netns.enter(descriptor, look)
    until(lambda: not lives(who))  # the thread may take its time to end


def _new_namespace():
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1) as process:
        assert process.stdout.readline() == b"\n"
        descriptor = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        process.stdin.close()
    return descriptor, netns.identity(f"/proc/self/fd/{descriptor}")


def lives(who):
    """Whether the namespace is somewhere; as soon as it is not, its inode may be that of another test's."""
    path = network_namespaces().get(who.inode)
    try:
        return path is not None and netns.identity(path).may_be(who)
    except CNIError:  # who was there has ended
        return lives(who)


UNPROVEN = {
    "no-inode": {"netns_inode": 0},
    "another-pid-namespace": {"pid_namespace": 4711},
    "no-boot-and-no-inode": {"boot_id": "", "netns_inode": 0},
}


@pytest.mark.parametrize("case", UNPROVEN)
def test_what_is_not_proven_is_alive(case, node):
    node.add()
    (record,) = ledger(node).records()
    ledger(node).write(replace(record, **UNPROVEN[case]))
    die(node, node.sandbox)
    assert (found(node), collect(node)) == ([], [])
    assert lease_owners(node) == ["c1", "c1"]


def test_where_the_machine_cannot_be_looked_at_everybody_lives(node, monkeypatch):
    node.add()
    die(node, node.sandbox)

    def refuse(*_):
        raise KernelFailure("no")

    monkeypatch.setattr(living, "network_namespaces", refuse)
    assert collect(node) == []


def test_a_clean_up_that_fails_forgets_nothing_that_proves_the_death(node):
    node.add()
    die(node, node.sandbox)
    with fail_at(1):
        assert collect(node) == []
    assert collect(node) == ["c1"]
    assert (lease_owners(node), rules(node.host.path)) == ([], [])


def test_what_had_its_inode_and_ends_while_it_is_looked_at_is_looked_for_again(node, namespace, monkeypatch):
    node.add()
    inode = ledger(node).find("c1", "eth0").netns_inode
    die(node, node.sandbox)
    moved = namespace("moved").path  # who was found there is in another namespace by now
    seen = itertools.cycle([{inode: "/proc/0/ns/net"}, {inode: moved}])
    monkeypatch.setattr(living, "network_namespaces", lambda: next(seen))
    assert found(node) == []

    looks = itertools.chain([{inode: moved}, {inode: "/proc/0/ns/net"}], itertools.repeat({}))
    monkeypatch.setattr(living, "network_namespaces", lambda: next(looks))
    assert found(node) == ["c1"]


def test_who_lived_in_an_earlier_boot_is_dead_where_the_ledger_is_this_machines_own(node, monkeypatch):
    node.add()
    (record,) = ledger(node).records()
    ledger(node).write(replace(record, boot_id="an-earlier-one"))
    with monkeypatch.context() as shared:
        shared.setattr(disk, "kind", lambda _: "nfs4")
        assert collect(node) == []
    assert collect(node) == ["c1"]
    assert lease_owners(node) == []
    assert set(links(node.sandbox.path)) == {"lo"}


def test_who_comes_to_life_between_the_two_looks_is_not_touched(node, namespace):
    node.add()
    (record,) = ledger(node).records()
    dead = replace(record, netns_inode=1, boot_id="an-earlier-one")
    ledger(node).write(dead)
    assert collect(node, wait=lambda _: ledger(node).write(record)) == []
    node.check()

    ledger(node).write(dead)
    cleaner = reclaimer(node)
    (finding,) = inside(node, cleaner.look)
    ledger(node).write(record)
    assert not inside(node, lambda: cleaner.remove(finding)).removed
    node.check()


def test_what_somebody_is_at_work_on_is_left_to_them(node):
    node.add()
    die(node, node.sandbox)
    with ledger(node).held("c1", "eth0"):
        assert collect(node) == []
    assert lease_owners(node) == ["c1", "c1"]
    assert collect(node) == ["c1"]


def test_who_is_dead_is_told_from_another_who_has_got_its_inode_and_its_path(node, namespace):
    other = namespace("other")
    node.add()
    (record,) = ledger(node).records()
    if not record.netns_cookie:
        pytest.skip("this kernel gives namespaces no cookies")
    inode = os.stat(other.path).st_ino
    ledger(node).write(replace(record, netns_inode=inode, netns=other.path))
    die(node, node.sandbox)
    other.ip("link add eth0 type veth peer name eth9")  # by somebody else, under the name that was ours

    assert collect(node) == ["c1"]
    assert set(links(other.path)) == {"lo", "eth0", "eth9"}


@pytest.mark.parametrize("is_named", [False, True])
def test_a_delete_leaves_a_namespace_alone_that_has_got_the_path_and_the_inode(node, namespace, is_named):
    other = namespace("other")
    node.add()
    (record,) = ledger(node).records()
    if not record.netns_cookie:
        pytest.skip("this kernel gives namespaces no cookies")
    ledger(node).write(replace(record, netns_inode=os.stat(other.path).st_ino, netns=other.path))
    die(node, node.sandbox)
    other.ip("link add eth0 type veth peer name eth9")

    node.delete(netns=other.path if is_named else "")

    assert set(links(other.path)) == {"lo", "eth0", "eth9"}
    assert lease_owners(node) == []


def test_what_tells_namespaces_apart_tells_nothing_of_those_of_an_earlier_boot(node, namespace):
    other = namespace("other")
    node.add(netns=other.path)
    (record,) = ledger(node).records()
    die(node, other)
    subprocess.run(["ip", "netns", "add", other.name], check=True)
    other.ip("link add eth0 type veth peer name eth9")
    known = netns.identity(other.path)
    earlier = replace(record, boot_id="an-earlier-one", netns_inode=known.inode, netns_cookie=known.cookie)
    ledger(node).write(earlier)

    node.delete(netns=other.path)

    assert set(links(other.path)) == {"lo", "eth0", "eth9"}
    assert lease_owners(node) == []


def test_where_the_kernel_has_no_cookies_another_with_the_inode_is_taken_for_the_dead(node, namespace, monkeypatch):
    other = namespace("other")
    monkeypatch.setattr(netns, "own_cookie", lambda: 0)
    node.add()
    (record,) = ledger(node).records()
    ledger(node).write(replace(record, netns_inode=os.stat(other.path).st_ino))
    die(node, node.sandbox)
    assert collect(node) == []


def small(node):
    return {"delegates": [node.bridge("cluster", "cni0", "10.9.0.0/29")]}


def test_a_full_network_whose_owners_died_without_a_delete_serves_the_next_add(node, namespace):
    node.run([])
    conf = small(node)
    for number in range(5):
        dying = namespace(f"dying{number}")
        node.add(container_id=f"old{number}", netns=dying.path, conf=conf)
        die(node, dying)

    node.add(conf=conf)

    assert lease_owners(node) == ["c1"]
    assert [record.container_id for record in ledger(node).records()] == ["c1"]
    node.delete()


def test_a_full_network_whose_owners_live_serves_nobody_and_harms_nobody(node, namespace):
    node.run([])
    conf = small(node)
    alive = [namespace(f"alive{number}") for number in range(5)]
    for number, sandbox in enumerate(alive):
        node.add(container_id=f"alive{number}", netns=sandbox.path, conf=conf)
    before = lease_owners(node)

    with holding("nsenter", f"--net={alive[0].path}"):
        subprocess.run(["ip", "netns", "del", alive[0].name], check=True)
        with pytest.raises(TryAgainLater) as told:
            node.add(conf=conf)

        assert told.value.id == "PLX-IPAM-FULL"
        assert lease_owners(node) == before == [f"alive{number}" for number in range(5)]
        assert len([name for name in links(node.host.path) if name.startswith("veth")]) == 5


def fails_until_told(node):
    script = node.directory / "bin" / "broken"
    script.write_text(
        "#!/bin/sh\ncat > /dev/null\n"
        '[ $CNI_COMMAND = ADD ] && echo \'{"cniVersion": "1.0.0"}\' && exit 0\n'
        f"[ -e {node.directory}/mended ] && exit 0\n"
        'echo \'{"code": 7, "msg": "never"}\'; exit 1\n'
    )
    script.chmod(0o755)
    node.define("broken", {"cniVersion": "1.0.0", "name": "broken", "type": "broken"})
    node.run([{"name": "broken", "interface": "net9"}])


def leave_unfinished(node):
    fails_until_told(node)
    node.add()
    for _ in range(2):
        with pytest.raises(CNIError, match="never"):
            node.delete()
    node.delete()
    assert [record.container_id for record in ledger(node).unfinished.records()] == ["c1"]


def test_what_delete_could_not_finish_is_tried_until_it_is_done(node):
    leave_unfinished(node)
    assert (found(node), collect(node)) == (["c1"], [])
    (left,) = ledger(node).unfinished.records()
    assert left.entries[0].failure.tries == 4

    (node.directory / "mended").write_text("")
    assert collect(node) == ["c1"]
    assert list(ledger(node).unfinished.records()) == []


def test_the_runtimes_gc_tries_it_too(node):
    leave_unfinished(node)
    node.collect()
    (node.directory / "mended").write_text("")
    node.collect()
    assert list(ledger(node).unfinished.records()) == []


def test_what_is_left_of_one_container_is_not_tried_while_another_of_its_name_lives(node):
    leave_unfinished(node)
    (node.directory / "mended").write_text("")
    node.run(KUBEVIRT)
    node.add()
    assert (found(node), collect(node)) == ([], [])
    cleaner = reclaimer(node)
    left = replace(next(ledger(node).unfinished.records()))
    finding = reclaim._finding(reclaim.UNFINISHED, left, "")
    assert not inside(node, lambda: cleaner.remove(finding)).removed
    node.check()
    node.delete()
    assert collect(node) == ["c1"]


def test_an_add_waits_for_who_is_finishing_an_earlier_container_of_its_name(node, monkeypatch):
    leave_unfinished(node)
    node.run(KUBEVIRT)
    monkeypatch.setattr("cni.plugin.hold.PATIENCE", 0.0)
    with ledger(node).unfinished.claimed("c1", "eth0"), pytest.raises(TryAgainLater):
        node.add()
    assert set(links(node.sandbox.path)) == {"lo"}
    node.add()
    with pytest.raises(InvalidConfiguration):
        node.add()
    node.check()


def test_a_record_of_this_machines_own_pid_namespace_is_what_older_versions_wrote(node, monkeypatch):
    monkeypatch.setattr(living, "pid_namespace", lambda: 0)
    node.add()
    assert "pid_namespace" not in json.loads(node.record.read_text())


class Killed(BaseException):
    """Nothing that is undone or caught on the way happens to a process that is killed."""


def test_a_clean_up_that_is_cut_off_at_any_change_is_completed_by_the_next(node, monkeypatch):
    real = {module: module.change for module in (kernel, files)}
    for step in itertools.count(1):
        node.add()
        (record,) = ledger(node).records()
        ledger(node).write(replace(record, boot_id="an-earlier-one"))
        countdown = itertools.count(1)

        def change(module, what, call, *args, countdown=countdown, step=step, **kwargs):
            if next(countdown) == step:
                raise Killed(what)
            return real[module](what, call, *args, **kwargs)

        with monkeypatch.context() as failing:
            for module in real:
                failing.setattr(module, "change", functools.partial(change, module))
            with contextlib.suppress(Killed):
                collect(node)
                break
        collect(node)
        assert (lease_owners(node), rules(node.host.path)) == ([], [])
        assert set(links(node.sandbox.path)) == {"lo"}
        assert list(ledger(node).records()) == []
    assert step > 5
