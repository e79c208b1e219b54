"""What executed programs inherit, and what they do not."""

from __future__ import annotations

import pytest

from cni.linux import environment
from cni.plugin import execute
from cni.spec.request import Request

PASSED = {
    "PATH": "/bin",
    "HOME": "/root",
    "HTTPS_PROXY": "p",
    "KUBERNETES_SERVICE_HOST": "h",
    "LANG": "C",
    "X_LD_": "1",
}
LOADING = (
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PERL5LIB",
    "RUBYOPT",
    "BASH_ENV",
)
OURS_ALONE = ("LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC")


@pytest.mark.parametrize(
    "name", [*LOADING, *OURS_ALONE, "GCONV_PATH", "GLIBC_TUNABLES", "BASH_FUNC_x%%", "XTABLES_LIBDIR"]
)
def test_what_loads_code_or_is_for_one_process_is_not_passed_on(name: str):
    assert environment.of_programs(PASSED | {name: "/tmp/evil"}) == PASSED


@pytest.mark.parametrize("caller", [{}, {"PATH": ""}])
def test_there_is_always_a_path(caller: dict[str, str]):
    assert environment.of_programs(caller) == {"PATH": environment.PATH}


def test_a_plugin_gets_the_protocols_variables_and_no_argument_becomes_one():
    request = Request(
        command="ADD",
        container_id="c",
        netns="/n",
        ifname="eth0",
        args="LD_PRELOAD=/tmp/evil;PYTHONPATH=/tmp\nLD_AUDIT=/x",
        path=("/a", "/b"),
        environ=PASSED | {"LD_PRELOAD": "/x", "CNI_COMMAND": "DEL", "CNI_NEW": "kept"},
    )
    assert execute.environment(request) == PASSED | {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": "/n",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": request.args,
        "CNI_PATH": "/a:/b",
        "CNI_NEW": "kept",
    }
