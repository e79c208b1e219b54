"""The meta plugin: a pod's networks, each through its delegates, all of them or none."""

from __future__ import annotations

import itertools
import logging
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from cni.linux import netns
from cni.meta import identity, inherited, places, stages, surroundings, undo, unfinished
from cni.meta.container import Container
from cni.meta.inherited import Inheritance
from cni.meta.places import Places
from cni.plugin import caller, chain, files, ledger, observed
from cni.plugin.ledger import DamagedRecord, Ledger, NewerRecord, Record
from cni.plugin.rollback import Rollback, Teardown
from cni.spec.errors import CheckFailed, CNIError, DeleteIncomplete, InvalidConfiguration, TryAgainLater
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.kube.objects import Pod
    from cni.kube.source import Source
    from cni.meta.config import MetaConf
    from cni.meta.identity import Identity
    from cni.meta.plan import Planned
    from cni.meta.stages import Stage
    from cni.spec.result import Result

# What reads configurations and results is imported where it is needed: a DEL that replays its record does without.

log = logging.getLogger(__name__)


def add(request: Request) -> Result:
    """Attach the pod to every network it asks for; a failure leaves nothing behind.

    Returns the cluster network's result. Raises the failing delegate's CNIError, told with pod, network and interface.
    """
    from cni.meta import config, events, readiness

    conf = config.parse(request)
    source = surroundings.source(conf, request)
    who = identity.parse(request.args)
    readiness.wait(conf)
    with observed.phase("look up pod"):
        pod = _get_pod(source, who)
    try:
        record = _attach_all_that_fits(conf, request, who, pod, source)
    except CNIError as error:
        events.failed(source, pod, error)
        raise
    events.added(source, pod, record)
    return _cluster_result(record)


def _attach_all_that_fits(conf: MetaConf, request: Request, who: Identity, pod: Pod | None, source: Source) -> Record:
    """Attach; where addresses are wanting, once more after those of the dead were given back."""
    try:
        return _attach_all(conf, request, who, pod, source)
    except TryAgainLater as error:
        from cni.meta import reclaim

        if error.id != "PLX-IPAM-FULL" or not reclaim.make_room(conf, request):
            raise
        log.warning("attached again after addresses of the dead were given back: %s", error)
        return _attach_all(conf, request, who, pod, source)


def _attach_all(conf: MetaConf, request: Request, who: Identity, pod: Pod | None, source: Source) -> Record:
    from cni.meta import network_status
    from cni.meta.plan import plan

    with observed.phase("look up networks"):
        planned = plan(conf, request, who, pod, source)
    records = Ledger(conf.ledger_directory)
    container = _new_container(conf, request, who, planned, records)
    container.validate()
    records.make()
    with records.held(request.container_id, request.ifname), Rollback() as rollback:
        caller.check()  # a DEL may have come and gone before
        _refuse_another(request, records)
        container.record = _look_inside(request.netns, container.record)
        container.remember()
        rollback.on_failure(container.abandon)
        for stage in container.stages:
            _attach_stage(stage, container, planned, rollback)
        container.remember()
        if pod is not None:
            with observed.phase("publish status"):
                source.publish(pod, network_status.build(container.record))
        rollback.commit()
    return container.record


def _attach_stage(stage: Stage, container: Container, planned: list[Planned], rollback: Rollback) -> None:
    """Make the attachments of one stage. Raises the first CNIError in the pod's order, when none runs any more."""
    from cni.meta import default_route

    def attach(place: int) -> None:
        wanted = planned[place]
        result = container.attach(wanted.entry, wanted.described)
        true = default_route.apply(container.record.netns, wanted, planned, result)
        container.attached(wanted.entry, true)

    try:
        failures = list(stages.run(stage, attach).values())
    finally:
        for place in sorted(itertools.chain(*stage)):
            if planned[place].entry.ifname in container.begun:
                rollback.on_failure(container.detach, planned[place].entry.ifname)
    for besides in failures[1:]:
        log.warning("another network failed at the same time: %s", besides)
    for first in failures[:1]:
        raise first


def delete(request: Request) -> None:
    """Undo what ADD recorded, newest first, without asking what the pod or its networks are now.

    Where there is no record, it is undone what Multus remembers, or what an ADD would make now. Raises one CNIError
    naming each failure; what could not be undone stays recorded for the next DEL.
    """
    conf = places.parse(request)
    records = Ledger(conf.ledger_directory)
    if not records.can_have(request.container_id, request.ifname):
        return  # so that no ADD of it can have begun
    # Who hangs over it, a daemon that is stopped, say, undoes what nobody hears of when it goes on.
    with records.held(request.container_id, request.ifname, despite_others=True):
        try:
            own = records.find(request.container_id, request.ifname)
        except (DamagedRecord, NewerRecord) as error:
            _delete_by_plan(request, records, error)
            return
        if own is None:
            records.remove(request.container_id, request.ifname)  # an ADD may have been killed before it was complete
        _delete_known(request, conf, records, own)


def _delete_known(request: Request, conf: MetaConf | Places, records: Ledger, own: Record | None) -> None:
    inheritance = _inheritance(conf)
    record = own
    if own is None:
        assumed = inheritance.find(request.container_id, request.ifname) or _assumed(request)
        record = assumed and unfinished.besides(records.unfinished, assumed)
    if record is not None:
        teardown = Teardown()
        with teardown.step():
            undo.undo(record, records, conf, request, told=request.netns)
        with teardown.step():
            if own is None:
                inheritance.forget(request.container_id)
        teardown.finish(f'could not delete container "{record.container_id}"')


def check(request: Request) -> None:
    """Have every recorded attachment checked by its delegates. Raises CheckFailed, or a delegate's CNIError."""
    conf = places.parse(request)
    records = Ledger(conf.ledger_directory)
    record = records.find(request.container_id, request.ifname)
    record = record or _inheritance(conf).find(request.container_id, request.ifname)
    if record is None:
        raise CheckFailed(
            f'could not find what container "{request.container_id}" is attached to',
            f'no record in "{records.directory}": it was not added by us, or is deleted already',
            id="PLX-LEDGER-MISSING",
        )
    Container(record, records, surroundings.host(conf, request, record.path)).check()


def gc(request: Request) -> None:
    """Detach every container that is not among the valid attachments, then have the delegates collect theirs."""
    from cni.meta import config, garbage, readiness, reclaim
    from cni.meta.networks import Networks

    conf = config.parse(request)
    readiness.wait(conf)
    records = Ledger(conf.ledger_directory)
    valid = set(request.valid_attachments())

    def undo_now(record: Record) -> None:
        with records.held(record.container_id, record.ifname):
            undo.undo(records.find(record.container_id, record.ifname) or record, records, conf, request)

    garbage.collect(
        every_pods=Networks(conf, surroundings.source(conf, request)).configured(),
        known=[*records.records(), *_inheritance(conf).records(valid)],
        valid=valid,
        host=surroundings.host(conf, request),
        undo=undo_now,
    )
    reclaim.finish_all(conf, request)


def status(request: Request) -> None:
    """Whether an ADD would succeed: the source answers, and the delegates of every pod's networks are ready."""
    from cni.meta import config, readiness
    from cni.meta.networks import Networks

    conf = config.parse(request)
    readiness.wait_for_status(conf)
    source, host = surroundings.source(conf, request), surroundings.host(conf, request)
    with readiness.needed_by_all():
        files.check_directory(conf.ledger_directory)
        source.check_ready()
        networks = Networks(conf, source).configured()
        for network in networks:
            chain.find_executed(network.conf, host)
    for network in networks:
        chain.status(network.conf, host)


def _get_pod(source: Source, who: Identity) -> Pod | None:
    """The pod the runtime means; None for a container that is no pod's. Raises TryAgainLater."""
    if not who.is_pod:
        return None
    pod = source.get_pod(who.namespace, who.name, who.uid)
    if who.uid and pod.uid and who.uid != pod.uid and not pod.is_static:
        raise TryAgainLater(
            f'could not use pod "{pod.full_name}": its UID is "{pod.uid}"',
            f'the runtime asks for the pod of UID "{who.uid}", which is gone or not yet known',
            id="PLX-POD-UID",
        )
    return pod


def _new_container(
    conf: MetaConf, request: Request, who: Identity, planned: list[Planned], records: Ledger
) -> Container:
    """What is about to be attached."""
    from cni.linux import living
    from cni.meta import default_route

    host = surroundings.host(conf, request)
    record = Record(
        container_id=request.container_id,
        ifname=request.ifname,
        netns=request.netns,
        pod_namespace=who.namespace,
        pod_name=who.name,
        pod_uid=who.uid,
        boot_id=ledger.boot_id(),
        netns_inode=netns.find_inode(request.netns),
        pid_namespace=living.pid_namespace(),
        path=host.path,
        entries=tuple(wanted.entry for wanted in planned),
    )
    # With a default route of the pod's choice, the one that a plugin made must go before the next makes its own.
    asks_route = any(default_route.is_asked(wanted) for wanted in planned)
    return Container(record, records, host, parallel=conf.parallel and not asks_route)


def _refuse_another(request: Request, records: Ledger) -> None:
    """Raise InvalidConfiguration for a container that is attached already."""
    if records.find(request.container_id, request.ifname) is not None:
        raise InvalidConfiguration(
            f'could not add container "{request.container_id}": its "{request.ifname}" is attached already',
            "a DEL must come first",
            id="PLX-ADDED-TWICE",
        )


def _look_inside(sandbox: str, record: Record) -> Record:
    """The record with what tells its sandbox from every other.

    Raises InvalidConfiguration, before anything is made, when an interface has a name that we are to give.
    """

    def look() -> tuple[set[str], int]:
        return {name for _, name in socket.if_nameindex()}, netns.own_cookie()

    present, cookie = netns.run_inside(sandbox, look)
    for entry in record.entries:
        if entry.ifname in present:
            raise InvalidConfiguration(
                f'could not make interface "{entry.ifname}" for network "{entry.network}"',
                f'the sandbox "{sandbox}" has an interface of that name already',
                id="PLX-IFNAME-TAKEN",
            )
    return replace(record, netns_cookie=cookie)


def _cluster_result(record: Record) -> Result:
    return next(filter(None, (entry.get_result() for entry in record.entries if entry.default)))


def _inheritance(conf: MetaConf | Places) -> Inheritance:
    return Inheritance(conf.cni_dir, inherited.MULTUS)


def _assumed(request: Request) -> Record | None:
    """What an ADD would make now, for a container that somebody else attached, or whose record is lost.

    The runtime's prevResult tells that there was an ADD, for which it is worth to ask the source, and to look for what
    else is there; else it is what the node knows of every pod. None where that is nothing: usually there was no ADD, or
    all of it is undone.
    """
    from cni.meta import config, traces

    try:
        if request.prev_result:
            planned = _planned_record(request, identity.parse(request.args))[0]
            return traces.added(planned, Ledger(config.parse(request).ledger_directory))
        cluster_network = config.parse(request).cluster_network
        by_definition = cluster_network and "/" not in cluster_network
        return None if by_definition else _planned_record(request, identity.parse(""))[0]
    except CNIError as error:
        log.warning('container "%s" has no record, and it cannot be told what it has: %s', request.container_id, error)
        return None


def _planned_record(request: Request, who: Identity) -> tuple[Record, str]:
    """A record of what an ADD would make now, or of what every pod gets, and then why its own networks are unknown."""
    from cni.meta import config
    from cni.meta.plan import plan

    conf = config.parse(request)
    source = surroundings.source(conf, request)
    unknown = ""
    try:
        planned = plan(conf, request, who, _get_pod(source, who), source)
    except CNIError as error:
        unknown = str(error)
        planned = plan(conf, request, identity.parse(""), None, source)
    record = Record(
        container_id=request.container_id,
        ifname=request.ifname,
        netns=request.netns,
        pod_namespace=who.namespace,
        pod_name=who.name,
        entries=tuple(wanted.entry for wanted in planned),
    )
    return record, unknown


def _delete_by_plan(request: Request, records: Ledger, unread: DamagedRecord | NewerRecord) -> None:
    """DEL without a readable record: undo what an ADD would make now, and what else is seen of the container.

    The record of a newer plexus is left to that one. Raises DeleteIncomplete, once, when nobody can know what that ADD
    made besides.
    """
    from cni.meta import config, traces

    is_newer = isinstance(unread, NewerRecord)
    teardown = Teardown()
    aside = ""
    with teardown.step():
        aside = (records.leave if is_newer else records.set_aside)(request.container_id, request.ifname)
    log.warning('%s; it is now "%s"', unread, aside or unread.path)
    conf = config.parse(request)
    who = identity.parse(request.args)
    planned, unknown = _planned_record(request, who)
    record = traces.added(planned, records)
    with teardown.step():
        container = Container(record, records, surroundings.host(conf, request), parallel=conf.parallel)
        container.detach_all(settle=bool(aside))
    with teardown.step():
        if who.is_pod and who.full_name not in {other.pod for other in records.records()}:
            surroundings.source(conf, request).withdraw(who.namespace, who.name)
    with teardown.step():
        if unknown and not is_newer:
            raise DeleteIncomplete(
                f'could not tell all networks of container "{request.container_id}"',
                f'{unread}; set aside as "{os.path.basename(aside)}"; its pod says no more: {unknown};'
                " what plugins that are executed have of it may still be there",
                id="PLX-LEDGER-DAMAGED",
            )
    teardown.finish(f'could not delete container "{request.container_id}"')
