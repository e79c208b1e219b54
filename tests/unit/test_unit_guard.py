"""The guard of these tests itself."""

import os
import socket
import subprocess

import pytest
from outside_world import OutsideWorld


def test_a_unit_test_cannot_start_a_process():
    with pytest.raises(OutsideWorld):
        subprocess.run(["true"], check=True)


def test_a_unit_test_cannot_fork():
    with pytest.raises(OutsideWorld):
        os.fork()


def test_a_unit_test_cannot_open_a_netlink_socket():
    with pytest.raises(OutsideWorld):
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


def test_the_guard_passes_through_except_exception():
    assert not issubclass(OutsideWorld, Exception)
