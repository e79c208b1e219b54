"""One container's attachments: each is made and undone through its plugins, and remembered before either."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from cni.meta import device_info, served, stages, unfinished
from cni.plugin import chain, observed
from cni.plugin.chain import Attachment, Host
from cni.plugin.ledger import Entry, Ledger, Record
from cni.plugin.rollback import Teardown
from cni.spec import netconf, versions
from cni.spec.errors import CNIError, DeleteIncomplete, NotExecuted
from cni.spec.netconf import NetConfList, plugin_type
from cni.spec.request import Request

if TYPE_CHECKING:
    from cni.spec.document import Document
    from cni.spec.result import Result

log = logging.getLogger(__name__)

RECORDED = "the recorded configuration"
SHORT = 16384
"""Characters of a configuration that is remembered, once it was read."""


class Container:
    """The record of one ADD, kept true while its attachments come and go, in threads too."""

    def __init__(
        self, record: Record, ledger: Ledger, host: Host, *, parallel: bool = True, sandbox: str | None = None
    ) -> None:
        self.record = record
        self.ledger = ledger
        self.sandbox = record.netns if sandbox is None else sandbox
        """The namespace that plugins are told; by now it may not be where it is recorded."""

        self.host = host
        self.stages = stages.split([_find_conf(entry) for entry in record.entries], host, parallel=parallel)
        """What of it is made at the same time: places in the record's list of entries."""

        self.begun: set[str] = set()
        """The interfaces whose ADD was begun here."""

        self._written: Record | None = None
        self._changing = threading.Lock()

    def remember(self) -> None:
        """Write the record, unless the ledger says the same. Raises IOFailure."""
        with self._changing, observed.phase("remember"):
            if self.record is not self._written:
                self.ledger.write(self.record, first=self._written is None)
                self._written = self.record

    def validate(self) -> None:
        """Raise the CNIError of an ADD that cannot even begin: a bad name, or a plugin that is not there."""
        for entry in self.record.entries:
            with self._for_network("validate", entry):
                chain.validate(_conf(entry), self._attachment(entry), self.host)

    def attach(self, entry: Entry, described: str = "") -> Result:
        """ADD through the entry's plugins, whose device is `described` by the file of that name, if there is one.

        Raises CNIError, told with its place, the failing plugin's or our own.
        """
        self._remember_around(entry)
        self.begun.add(entry.ifname)
        with self._for_network("attach", entry):
            device_info.place(entry, self.record.container_id, described)
            result = self._add(entry)
            served.verify(entry, self.record.netns, result)
        return result

    def _add(self, entry: Entry) -> Result:
        """ADD through the plugins. Where not even the first could be executed there is nothing to undo."""
        conf = _conf(entry)
        try:
            with self._alone(conf, entry):
                return chain.add(conf, self._attachment(entry), self.host)
        except NotExecuted as error:
            kinds = [plugin_type(plugin) for plugin in conf.plugins]
            if kinds[0] == error.plugin and kinds.count(error.plugin) == 1:
                device_info.remove(entry, self.record.container_id)
                self.begun.discard(entry.ifname)
            raise

    def attached(self, entry: Entry, result: Result) -> None:
        """Remember the result of an ADD. Raises IOFailure."""
        info = device_info.find(entry, self.record.container_id)
        with self._changing:
            index = [known.ifname for known in self.record.entries].index(entry.ifname)
            self.record = self.record.with_entry(index, entry.attached(result, info))
        self._remember_around(entry)

    def check(self) -> None:
        """CHECK every attachment whose plugins have the verb. Raises the first CNIError, told with its place."""
        for entry in self.record.entries:
            with self._for_network("check", entry):
                conf = chain.with_every_verb(_conf(entry), self.host)
                if versions.at_least(conf.cni_version, "0.4.0"):
                    chain.check(conf, self._attachment(entry), self.host, entry.get_result())

    def detach(self, ifname: str) -> None:
        """DEL through the plugins of one attachment, and forget it. Raises their CNIError, and remembers it still."""
        entry = next(entry for entry in self.record.entries if entry.ifname == ifname)
        with self._for_network("detach", entry), self._noting(entry):
            self._delete(entry)
            device_info.remove(entry, self.record.container_id)
        with self._changing:
            entries = tuple(kept for kept in self.record.entries if kept.ifname != ifname)
            self.record = self.record.with_entries(entries)

    def _delete(self, entry: Entry) -> None:
        """DEL through the plugins; one that does not know the container has nothing to undo. Raises CNIError."""
        try:
            conf = chain.with_every_verb(_conf(entry), self.host)
            with self._alone(conf, entry):
                chain.delete(conf, self._attachment(entry), self.host, self._told_result(conf, entry))
        except CNIError as error:
            if unfinished.failures(error):
                raise

    def _alone(self, conf: NetConfList, entry: Entry) -> AbstractContextManager[None]:
        """Keep out, where plugins are executed, what another call has executed for the attachment and was killed over.

        Built-in plugins end with their process.
        """
        if chain.is_built_in(conf, self.host):
            return contextlib.nullcontext()
        from cni.plugin import underway

        return underway.alone(os.path.dirname(self.ledger.directory), self.record.container_id, entry.ifname)

    @contextlib.contextmanager
    def _noting(self, entry: Entry) -> Iterator[None]:
        """Remember why the block could not undo the attachment."""
        try:
            yield
        except CNIError as error:
            with self._changing:
                index = [known.ifname for known in self.record.entries].index(entry.ifname)
                self.record = self.record.with_entry(index, entry.failed(str(error), time.time()))
            raise

    def detach_all(self, *, leave: bool = True, settle: bool = True) -> None:
        """Detach newest first, whatever fails; what could not be detached stays recorded, if it is to `settle`.

        What no other DEL would mend is left among the unfinished, if `leave`, and is no failure any more. Raises one
        CNIError naming each failure.
        """
        teardown = Teardown()
        entries = self.record.entries
        requests = {place: request for place, entry in enumerate(entries) if (request := self._built_in_request(entry))}
        for stage in stages.backwards(self.stages, requests):
            _unplug([request for place, request in requests.items() if place in itertools.chain(*stage)])
            failures = stages.run(stage, lambda place: self.detach(entries[place].ifname), despite_failures=True)
            for place, error in reversed(failures.items()):
                if not (leave and self._is_left(entries[place].ifname, error)):
                    teardown.failures.append(error)
        with teardown.step():
            if settle:
                self.settle()
        teardown.finish(f'could not detach container "{self.record.container_id}" from all of its networks')

    def _is_left(self, ifname: str, error: CNIError) -> bool:
        """Whether the attachment is among the unfinished now, instead of here."""
        entry = next(entry for entry in self.record.entries if entry.ifname == ifname)
        if not unfinished.is_left(entry, error, replace(self.record, netns=self.sandbox), time.time()):
            return False
        try:
            unfinished.keep(self.ledger, self.record, (entry,))
        except CNIError as failure:
            log.warning("could not leave what cannot be undone: %s", failure)
            return False
        self.record = self.record.with_entries(tuple(kept for kept in self.record.entries if kept is not entry))
        return True

    def abandon(self) -> None:
        """Settle an ADD that failed: what was not even begun needs no DEL."""
        begun = tuple(entry for entry in self.record.entries if entry.ifname in self.begun)
        self.record = self.record.with_entries(begun)
        self.settle()

    def settle(self) -> None:
        """Make the ledger say what is left: forget the container when nothing is. Raises IOFailure."""
        if self.record.entries:
            self.remember()
        else:
            self.ledger.remove(self.record.container_id, self.record.ifname)

    def _remember_around(self, entry: Entry) -> None:
        """Write what is known by now, before and after a plugin is executed: it may take long, and not come back.

        Built-in plugins need no results to undo what they did.
        """
        conf = _find_conf(entry)
        if conf is None or not chain.is_built_in(conf, self.host):
            self.remember()

    def _built_in_request(self, entry: Entry) -> Request | None:
        """What names the attachment to our own delegates, where nothing has to be executed for the network."""
        conf = _find_conf(entry)
        if conf is None or not chain.is_built_in(conf, self.host):
            return None
        container_id = self.record.container_id
        return Request(command="DEL", container_id=container_id, ifname=entry.ifname, conf={"name": conf.name})

    def _told_result(self, conf: NetConfList, entry: Entry) -> Result | Document | None:
        """What a DEL is told of its ADD: our own plugins need not have it read, others nothing that cannot be."""
        if chain.is_built_in(conf, self.host):
            return entry.result
        try:
            return entry.get_result()
        except CNIError as error:
            log.warning('network "%s" is deleted without the result of its ADD: %s', entry.network, error)
            return None

    def _attachment(self, entry: Entry) -> Attachment:
        return Attachment(
            container_id=self.record.container_id,
            ifname=entry.ifname,
            netns=self.sandbox,
            args=entry.args,
            runtime_config=entry.runtime_config,
        )

    @contextlib.contextmanager
    def _for_network(self, phase: str, entry: Entry) -> Iterator[None]:
        """Have an error of the block name its place, and the block known as a phase of the call."""
        try:
            with observed.phase(phase, entry.network):
                yield
        except CNIError as error:
            pod = f'pod "{self.record.pod}", ' if self.record.pod else ""
            raise error.within(f'{pod}network "{entry.network}", interface "{entry.ifname}"') from error


def _unplug(requests: Sequence[Request]) -> None:
    """Delete the interfaces of several attachments as one, which takes the kernel as long as one of them."""
    if len(requests) < 2:
        return
    from delegates import host_veth

    try:
        with observed.phase("unplug"):
            host_veth.delete_together(requests)
    except CNIError as error:
        log.warning("interfaces are deleted one after another: %s", error)


def _find_conf(entry: Entry) -> NetConfList | None:
    try:
        return _conf(entry)
    except CNIError:
        return None


def _conf(entry: Entry) -> NetConfList:
    """The entry's configuration. Raises DeleteIncomplete, since only a foreign hand can have broken it."""
    try:
        if len(entry.conf) <= SHORT:
            return _parsed(entry.conf)
        return netconf.parse(entry.conf, RECORDED)
    except CNIError as error:
        raise DeleteIncomplete(
            f'could not read what was attached as "{entry.ifname}"', str(error), id="PLX-LEDGER-DAMAGED"
        ) from error


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> NetConfList:
    """The same of all containers of a network, for each of the steps of an ADD."""
    return netconf.parse(text, RECORDED)
