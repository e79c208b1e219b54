#!/usr/bin/env bash
# Assembles the bundle: plexus with an interpreter and a C library of its own, which run on any Linux of this
# architecture, whatever it has or lacks. It needs Debian 12's python3.11-venv and patchelf (or their like).
#
# Usage: assemble.sh DIRECTORY [PYTHON]
set -euo pipefail
umask 022

sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bundle=$(realpath -m -- "${1:?Usage: assemble.sh DIRECTORY [PYTHON]}")
python=${2:-/usr/bin/python3}
PATH=$PATH:/usr/sbin:/sbin

# What is not for a node: tests, tools for developers, and modules that would need libraries for nothing.
LEFT_OUT=(__pycache__ config-* ensurepip idlelib lib2to3 pydoc_data sitecustomize.py test tkinter turtledemo venv
    EXTERNALLY-MANAGED LICENSE.txt lib-dynload/{_curses*,_dbm*,_gdbm*,_test*,_tkinter*,_xx*,xx*}
    lib-dynload/{nis,ossaudiodev,readline,_ctypes_test}.*)
# The path of its C library's loader is in an executable. Here it gets room for every prefix; installing writes it.
ROOM=$(printf '/%.0s' {1..250})

of_python() { "$python" -I -c "import os, platform, sys, sysconfig; print($1)"; }

place_python() {
    local version stdlib
    version=python$(of_python '"%d.%d" % sys.version_info[:2]')
    stdlib=$(of_python 'sysconfig.get_path("stdlib")')
    mkdir -p "$bundle/bin" "$bundle/lib/$version"
    cp "$(of_python 'os.path.realpath(sys.executable)')" "$bundle/bin/python3"
    tar -C "$stdlib" "${LEFT_OUT[@]/#/--exclude=./}" --exclude=__pycache__ -cf - . |
        tar -C "$bundle/lib/$version" --no-same-owner -xf -
    # Debian's Python and others look in different directories of their prefix.
    packages=$bundle/lib/$version/$(of_python '"dist-packages" if "deb_system" in sysconfig.get_scheme_names() else "site-packages"')
    mkdir -p "$packages"
    printf '%s\n' "${packages#"$bundle"/}" >"$bundle/packages"
}

place_packages() {
    "$python" -I -m venv "$work/venv"
    "$python" -I -c 'if True:
        import sys, tomllib
        with open(sys.argv[1], "rb") as file:
            print(*tomllib.load(file)["project"]["dependencies"], sep="\n")
    ' "$sources/pyproject.toml" >"$work/dependencies.txt"
    "$work/venv/bin/python3" -I -m pip install --quiet --disable-pip-version-check --no-compile --target "$packages" \
        --only-binary :all: --constraint "$sources/constraints.txt" --requirement "$work/dependencies.txt"
    # The library's second half, for asyncio, and what only that needs: as much again as all the rest.
    rm -rf "${packages:?}"/{bin,kubernetes/aio,aiohttp*,aiosignal*,aiohappyeyeballs*,yarl*,multidict*,propcache*,frozenlist*}
    rm -f "$packages"/*.dist-info/RECORD # has hashes of what lies in a directory of this run
    tar -C "$sources" --exclude=__pycache__ --owner=0 --group=0 --mode=u+rwX,go+rX,go-w -cf - cni ipam delegates |
        tar -C "$packages" --no-same-owner -xf -
}

elf_files() { find "$bundle" -type f \( -path '*/bin/*' -o -name '*.so' -o -name '*.so.*' \); }

# Everything that the dynamic loader would find in this system. The C library opens libgcc_s by itself, to end threads.
place_libraries() {
    local library
    elf_files | xargs ldd 2>/dev/null | sed -nE 's/^[[:space:]]+(.* => )?(\/[^ ]+) \(0x.*/\2/p' | sort -u >"$work/libraries"
    ldconfig -p | sed -nE 's/.*libgcc_s\.so\.1 .*=> (.*)/\1/p' | head -n 1 >>"$work/libraries"
    while read -r library; do
        [[ $library == "$bundle"/* ]] || cp -L "$library" "$bundle/lib/"
    done <"$work/libraries"
}

# RPATH, and not RUNPATH, because it comes before LD_LIBRARY_PATH and holds for libraries of libraries too.
make_independent() {
    local program loader
    for program in "$bundle"/bin/*; do
        loader=$(basename "$(patchelf --print-interpreter "$program")")
        patchelf --set-interpreter "$ROOM/$loader" "$program"
        # shellcheck disable=SC2016 # the loader knows what $ORIGIN is
        patchelf --force-rpath --set-rpath '$ORIGIN/../lib' "$program"
    done
    printf '%s\n' "$loader" >"$bundle/loader"
}

# The bytecode of every module is valid for good: the launchers must not try to write it.
compile() {
    "$python" -I -m compileall -q --invalidation-mode unchecked-hash -s "$bundle" -p / "$bundle/lib"
}

# The same content gives the same version, wherever the bundle lies.
name_version() {
    (
        cd "$bundle"
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -c -16 >"$work/version"
    mv "$work/version" "$bundle/version"
}

relocate() {
    PYTHONPATH=$sources "$python" -B -c 'import sys; from cni.node import bundle; bundle.relocate(*sys.argv[1:])' \
        "$bundle" "$bundle"
}

# With all libraries that plexus ever imports.
prove() {
    PYTHONPATH=$sources "$python" -B -c 'import sys; from cni.node import bundle; bundle.prove(*sys.argv[1:])' "$bundle"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$bundle"
place_python
place_packages
place_libraries
make_independent
compile
name_version
relocate
prove
