"""Whether anybody reads what we are to answer."""

import os
import socket

import pytest

from cni.plugin import caller
from cni.spec.errors import TryAgainLater


def test_a_pipe_tells_when_its_reader_is_gone():
    reader, writer = os.pipe()
    with caller.reading(writer):
        caller.check()
        os.write(writer, b"unread")
        caller.check()
        os.close(reader)
        with pytest.raises(TryAgainLater) as told:
            caller.check()
    assert told.value.id == "PLX-CALLER-GONE"
    caller.check()
    os.close(writer)


def test_a_socket_tells_when_its_peer_is_gone():
    ours, theirs = socket.socketpair()
    with ours, caller.reading(ours.fileno()):
        caller.check()
        theirs.close()
        with pytest.raises(TryAgainLater):
            caller.check()


@pytest.mark.parametrize("path", ["/dev/null", "file"])
def test_a_file_is_always_waited_for(path, tmp_path):
    descriptor = os.open(tmp_path / path, os.O_WRONLY | os.O_CREAT)  # an absolute path stands for itself
    with caller.reading(descriptor):
        caller.check()
    os.close(descriptor)
