#!/usr/bin/env bash
# Runs every test, after installing what the tests need: OS packages, and Python packages in .venv of this checkout.
# Arguments go to pytest; the exit status is pytest's. With PLEXUS_TESTS_STRICT=1 a missing tool or privilege is a
# failure, not a skip.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=install.sh
source "$root/install.sh"

ensure_tools() {
    local -a needs=(ip=iproute2 nft=nftables iptables=iptables ping=iputils-ping shellcheck=shellcheck git=git)
    needs+=(podman=podman crun=crun busybox=busybox-static)
    needs+=(patchelf=patchelf buildah=buildah debootstrap=debootstrap)
    filters_vlans || [[ $(uname -m) != x86_64 ]] || needs+=(qemu-system-x86_64=qemu-system-x86)
    # tests/cluster builds Kubernetes with Go, where it is not given.
    [[ ! ${PLEXUS_KUBE_BIN-} ]] && ! has_command go ||
        needs+=(etcd=etcd-server containerd=containerd runc=runc openssl=openssl setpriv=util-linux)
    if ((EUID)) || ! has_command apt-get; then
        local missing
        missing=$(missing_packages "${needs[@]}" | tr '\n' ' ')
        [[ -z $missing ]] || say "tests will be skipped for want of: $missing(Debian's names)" >&2
        return
    fi
    ensure_packages "${needs[@]}"
    # The reference plugins, which ours are compared with; they are not in PATH, so they are asked for by themselves.
    [[ -x /usr/lib/cni/bridge ]] || apt_install containernetworking-plugins
    # tests/vm fetches a kernel, and apt must know where from.
    filters_vlans || apt-cache show linux-image-amd64 >/dev/null 2>&1 || apt_update
}

# Without these the kernel's VLAN tests need a machine of their own, see tests/vm.
filters_vlans() {
    unshare --net sh -c 'ip link add one type bridge vlan_filtering 1 && ip link add link one name two type vlan id 2' \
        >/dev/null 2>&1
}

# Built anew when Python or a pinned version changes.
ensure_environment() {
    local python wanted
    python=$(find_python) || die "there is no Python 3.11 or newer"
    wanted=$("$python" -VV && cat constraints.txt constraints-tests.txt pyproject.toml)
    [[ ! -e .venv/complete || $(<.venv/complete) != "$wanted" ]] || return 0
    say "building .venv with $python"
    rm -rf .venv
    "$python" -I -m venv .venv
    .venv/bin/python -I -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --constraint constraints-tests.txt --requirement <(requirements "$python")
    printf '%s\n' "$wanted" >.venv/complete
}

# What guides the long fuzz; there are Pythons and processors that it is not made for.
ensure_guide() {
    .venv/bin/python -c 'import atheris' 2>/dev/null || .venv/bin/python -I -m pip install --quiet \
        --disable-pip-version-check --constraint constraints-tests.txt --only-binary :all: atheris ||
        say "no atheris for this Python: tests/faults/test_fuzz_guided.py is left out" >&2
}

requirements() {
    "$1" -I -c 'if True:
        import tomllib
        with open("pyproject.toml", "rb") as file:
            project = tomllib.load(file)["project"]
        print(*project["dependencies"], *project["optional-dependencies"]["tests"], sep="\n")
    '
}

cd "$root"
((EUID == 0)) || say "not root: the tests that need a kernel of their own will be skipped" >&2
ensure_tools
ensure_environment
[[ " $* " != *" --nightly "* ]] || ensure_guide
if (($#)) || [[ ${PLEXUS_TESTS_STRICT-} != 1 ]]; then
    exec .venv/bin/python -m pytest -n 2 "$@"
fi
.venv/bin/python -m pytest -n 2
# The comparison has had its daemon above; what uses hosts and sandboxes has it here.
# (tests/cluster/test_daemonset.py has the DaemonSet's.)
PLEXUS_TESTS_DAEMON=1 exec .venv/bin/python -m pytest -n 2 tests/cluster/test_{deployments,devices,pods,trouble}.py \
    tests/kernel tests/conformance/test_{chained_plugins,cnitool,meta_chains,mixed_operation,podman}.py
