#!/usr/bin/env bash
# Runs every test, after installing what the tests need: OS packages, and Python packages in .venv of this checkout.
# Arguments go to pytest; the exit status is pytest's. With PLEXUS_TESTS_STRICT=1 a missing tool or privilege is a
# failure, not a skip.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=install.sh
source "$root/install.sh"

ensure_tools() {
    ensure_packages ip=iproute2 nft=nftables ping=iputils-ping shellcheck=shellcheck git=git
    # The reference plugins, which ours are compared with; they are not in PATH, so they are asked for by themselves.
    [[ -x /usr/lib/cni/bridge ]] || ! has_command apt-get || apt_install containernetworking-plugins
}

# Built anew when Python or a pinned version changes.
ensure_environment() {
    local python wanted
    python=$(find_python)
    wanted=$("$python" -VV && cat constraints.txt constraints-tests.txt pyproject.toml)
    [[ ! -e .venv/complete || $(<.venv/complete) != "$wanted" ]] || return 0
    say "building .venv with $python"
    rm -rf .venv
    "$python" -I -m venv .venv
    .venv/bin/python -I -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --constraint constraints-tests.txt --requirement <(requirements "$python")
    printf '%s\n' "$wanted" >.venv/complete
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
exec .venv/bin/python -m pytest -n 2 "$@"
