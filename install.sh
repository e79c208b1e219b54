#!/usr/bin/env bash
# Installs plexus: a private Python environment below --prefix, and launchers in --bin-dir. See ./install.sh --help.
# What it changes is listed in PREFIX/installed before it is changed, so that --uninstall can take all of it back.
set -euo pipefail
umask 022

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

usage() {
    cat <<'USAGE'
Usage: ./install.sh [--demo | --uninstall] [OPTION]...

Install plexus, or bring an installation up to date. Run it as root. A second run changes nothing.

  --demo            show all of it at work in namespaces of its own, which takes under a minute; without --prefix
                    it installs into a temporary directory, and the machine keeps nothing but OS packages
  --uninstall       put back what was there before, found by --prefix alone; OS packages and the state of
                    containers that are still attached (/var/lib/cni) stay
  --prefix DIR      the private environment (default /opt/plexus)
  --bin-dir DIR     where the container runtime looks for plugins (default /opt/cni/bin): plexus, plexus-bridge,
                    plexus-veth, plexus-host-local, plexus-static and plexus-passthru go there; and bridge, veth,
                    host-local, static and passthru, unless another vendor's file of that name is there
  --replace         put our bridge, veth, ptp, host-local, static and passthru there even so; --uninstall brings
                    theirs back
  --as-multus       be multus there too, for configurations of its type; --uninstall brings theirs back
  --conf-dir DIR    also write 10-plexus.conflist there (the runtime's directory is /etc/cni/net.d), which makes
                    plexus the plugin of every pod if no other file there comes before it; pods and networks are
                    then those of the manifests in /etc/plexus/manifests; without this option, the runtime's
                    configuration is not touched
  --help            print this

OS packages that are missing (python3 with venv; for the demo iproute2, iputils-ping and nftables too) are installed
where apt-get exists; elsewhere they are named, and nothing is changed. Python packages come from the index that pip
is configured for, in the versions of constraints.txt.
USAGE
}

say() { printf '%s\n' "$*"; }

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

# --- What the operating system must have ---------------------------------------------------------------------------

has_command() { [[ -x $(type -P "$1") ]]; }

is_python() { "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The distribution's own Python comes first: one from a home directory may go away with its owner.
find_python() {
    local name
    for name in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if is_python "$name"; then
            "$name" -I -c 'import os, sys; print(os.path.realpath(sys.executable))'
            return
        fi
    done
    return 1
}

missing_python() {
    local found
    if ! found=$(find_python); then
        # The distribution's python3 is too old: some have a newer one beside it.
        if has_command python3; then say python3.11 python3.11-venv; else say python3 python3-venv; fi
    elif ! "$found" -I -c 'import ensurepip, venv' 2>/dev/null; then
        say "$(basename "$found")-venv"
    fi
}

# Arguments: COMMAND=PACKAGE...
missing_packages() {
    local need
    missing_python
    for need in "$@"; do
        has_command "${need%%=*}" || say "${need#*=}"
    done
}

apt_update() {
    local attempt
    for attempt in {1..30}; do
        apt-get -qq update >/dev/null && return
        say "apt-get update failed (attempt $attempt): another apt may be at work, trying again in 5 seconds" >&2
        sleep 5
    done
    return 1
}

apt_install() {
    local -x DEBIAN_FRONTEND=noninteractive
    local -a install=(apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@")
    say "installing packages: $*"
    apt-cache show "$@" >/dev/null 2>&1 || apt_update
    "${install[@]}" >/dev/null || { apt_update && "${install[@]}" >/dev/null; }
}

# Arguments: COMMAND=PACKAGE...; stops before anything is changed where there is no apt.
ensure_packages() {
    local -a missing
    read -ra missing <<<"$(missing_packages "$@" | tr '\n' ' ')"
    ((${#missing[@]})) || return 0
    has_command apt-get ||
        die "missing: ${missing[*]} (Debian's names). Install them with this system's package manager and run this again"
    apt_install "${missing[@]}" || die "could not install ${missing[*]}: see above"
    read -ra missing <<<"$(missing_packages "$@" | tr '\n' ' ')"
    ((${#missing[@]} == 0)) || die "still missing: ${missing[*]}; plexus needs Python 3.11 or newer, with venv"
}

# --- What we remember of the machine as it was ---------------------------------------------------------------------

# Arguments: KIND PATH
record() { is_recorded "$@" || printf '%s\t%s\n' "$1" "$2" >>"$prefix/installed"; }

is_recorded() { grep -qxF -- "$1"$'\t'"$2" "$prefix/installed" 2>/dev/null; }

# Argument: KIND; the newest first.
recorded() {
    [[ ! -e $prefix/installed ]] || tac "$prefix/installed" | sed -n "s/^$1\t//p"
}

ensure_directory() {
    local path=$1
    local -a created=()
    until [[ -d $path ]]; do
        created=("$path" "${created[@]}")
        path=$(dirname "$path")
    done
    mkdir -p "$1"
    for path in "${created[@]}"; do
        record directory "$path"
    done
}

# Keeps a copy of another vendor's file; if there is one already, that vendor has installed again since.
keep_theirs() {
    local kept=$prefix/replaced$1
    mkdir -p "$(dirname "$kept")"
    cp -a --remove-destination "$1" "$kept.new"
    mv -T "$kept.new" "$kept"
}

# --- Launchers -----------------------------------------------------------------------------------------------------

# Starts without `site`, which takes a quarter of the time and is needed only where the node daemon does not answer.
launcher() {
    printf '%s\n' "$shebang"
    printf '# A launcher of plexus, written by its install.sh.\n'
    printf 'import sys\n\nsys.path.insert(0, "%s")\n' "$packages"
    printf 'from cni.node.launcher import main\n\nraise SystemExit(main("%s", "%s"))\n' "$1" "$socket"
}

# An installation of its own has a daemon of its own.
socket_of() {
    if [[ $1 == /opt/plexus ]]; then
        printf '/run/plexus/plexus.sock'
    else
        printf '/run/plexus/%s.sock' "$(printf '%s' "$1" | sha256sum | cut -c -16)"
    fi
}

is_ours() { read_first_line "$1" && [[ $line == "#!$prefix/versions/"* ]]; }

is_current() { read_first_line "$1" && [[ $line == "$shebang" ]]; }

# Into `line`; what another vendor's program has there may be anything.
read_first_line() {
    line=
    [[ -f $1 ]] || return
    read -r -n 300 line <"$1" || true
}

exists() { [[ -e $1 || -L $1 ]]; }

# Writes stdin to PATH with MODE by rename: whoever runs or reads the old file keeps it, and after a power failure the
# one or the other is there, whole.
put() {
    local path=$1 mode=$2 temporary
    temporary=$(beside "$path")
    cat >"$temporary"
    chmod "$mode" "$temporary"
    sync "$temporary"
    mv -fT "$temporary" "$path"
    changed=1
}

# The same name each time: what a run that was killed has left goes with the next one, or with --uninstall.
beside() { printf '%s/.%s.tmp' "$(dirname "$1")" "$(basename "$1")"; }

place_launcher() {
    local path=$1 name=${1##*/}
    if exists "$path" && ! is_ours "$path"; then
        keep_theirs "$path"
        say "replaced $path, which was another vendor's; --uninstall brings it back"
    fi
    record launcher "$path"
    launcher "$name" | cmp -s - "$path" || put "$path" 755 < <(launcher "$name")
}

place_launchers() {
    local name path
    local -a shared=(bridge veth host-local static passthru)
    for name in plexus "${shared[@]/#/plexus-}"; do
        place_launcher "$bin_dir/$name"
    done
    for name in "${shared[@]}"; do
        if ((replace)) || ! exists "$bin_dir/$name" || is_ours "$bin_dir/$name"; then
            place_launcher "$bin_dir/$name"
        else
            say "kept $bin_dir/$name, which is another vendor's (--replace puts ours there)"
        fi
    done
    ((!replace)) || place_launcher "$bin_dir/ptp"
    ((!as_multus)) || place_launcher "$bin_dir/multus"
    # What an earlier run placed elsewhere, or by --replace, must not stay behind with an old version.
    while read -r path; do
        ! is_ours "$path" || is_current "$path" || place_launcher "$path"
    done <<<"$(recorded launcher)"
}

remove_launcher() {
    local path=$1 kept=$prefix/replaced$1
    rm -f "$(beside "$path")"
    if exists "$path" && ! is_ours "$path"; then
        say "left $path, which another vendor has installed since"
    elif exists "$kept"; then
        cp -a --remove-destination "$kept" "$(beside "$path")"
        mv -fT "$(beside "$path")" "$path"
    else
        rm -f "$path"
    fi
}

# --- The runtime's configuration -----------------------------------------------------------------------------------

place_conf() {
    local ours=$source_dir/conf-examples/10-plexus.conflist path=$conf_dir/10-plexus.conflist
    local written=$prefix/written$path
    if exists "$path" && ! is_as_written "$path"; then
        say "kept $path, which is not as we would have written it"
    elif ! cmp -s "$path" "$ours" || ! cmp -s "$written" "$ours"; then
        record conf "$path"
        mkdir -p "$(dirname "$written")"
        cp "$ours" "$written.next"
        put "$path" 644 <"$ours"
        mv -fT "$written.next" "$written"
    fi
    explain_order "$path"
}

# A run that was killed may have written the next one, and not yet have said so.
is_as_written() { cmp -s "$1" "$prefix/written$1" || cmp -s "$1" "$prefix/written$1.next"; }

explain_order() {
    local first
    first=$(find "$conf_dir" -maxdepth 1 \( -name '*.conf' -o -name '*.conflist' -o -name '*.json' \) |
        LC_ALL=C sort | head -n 1)
    [[ $first == "$1" ]] || say "note: the runtime's default network is $first, which comes before $1"
}

remove_conf() {
    local path=$1
    rm -f "$(beside "$path")"
    if is_as_written "$path"; then
        rm -f "$path"
    elif exists "$path"; then
        mv -fT "$path" "$path.uninstalled"
        say "renamed $path to $path.uninstalled, because it was edited: without plexus it would stop every pod"
    fi
}

# What the node agent of a cluster wrote, or renamed to make place for ours.
remove_file() { rm -f "$1"; }

restore_aside() { exists "$1" || [[ ! -e $1.before-plexus ]] || mv -T "$1.before-plexus" "$1"; }

# --- The environment -----------------------------------------------------------------------------------------------

# What a version consists of, told by its content: the same sources give the same directory again.
version_id() {
    local content
    content=$(
        cd "$source_dir"
        "$python" -I -c 'import sys; print(sys.executable, sys.version)'
        find cni ipam delegates -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
        sha256sum pyproject.toml constraints.txt install.sh
    )
    sha256sum <<<"$content" | cut -c -16
}

dependencies() {
    "$python" -I -c 'if True:
        import pathlib, sys, tomllib
        print(*tomllib.loads(pathlib.Path(sys.argv[1]).read_text())["project"]["dependencies"], sep="\n")
    ' "$source_dir/pyproject.toml"
}

# Where an environment in DIR has its packages, whether it is there or not.
packages_of() {
    "$python" -I -c 'if True:
        import sys, sysconfig
        print(sysconfig.get_path("purelib", "venv", {"base": sys.argv[1], "platbase": sys.argv[1]}))
    ' "$1"
}

# Built where it will stay, because such an environment cannot be moved; it counts once `complete` is there.
build_version() {
    local home=$prefix/versions/$version
    [[ ! -e $home/complete ]] || return 0
    say "building $home with $python"
    unfinished=$home
    rm -rf "$home"
    mkdir -p "$prefix/versions"
    "$python" -I -m venv "$home"
    dependencies >"$home/dependencies.txt"
    "$home/bin/python3" -I -m pip install --quiet --disable-pip-version-check \
        --constraint "$source_dir/constraints.txt" --requirement "$home/dependencies.txt"
    tar -C "$source_dir" --exclude=__pycache__ --owner=0 --group=0 --mode=u+rwX,go+rX,go-w -cf - cni ipam delegates |
        tar -C "$packages" -xf -
    # What only built it would slow down every start.
    "$home/bin/python3" -I -m pip --quiet uninstall --yes setuptools pip 2>/dev/null
    "$home/bin/python3" -I -m compileall -q "$packages"
    put "$home/bin/plexus" 755 < <(launcher plexus)
    CNI_COMMAND=VERSION "$home/bin/plexus" >/dev/null </dev/null || die "the new version does not start: see above"
    sync --file-system "$home"
    touch "$home/complete"
    unfinished=
    changed=1
}

# The version before stays, because a launcher may be running from it.
switch_version() {
    local previous path
    previous=$(readlink "$prefix/current" || true)
    [[ $previous != "versions/$version" ]] || return 0
    ln -sfn "versions/$version" "$prefix/.current.tmp"
    mv -fT "$prefix/.current.tmp" "$prefix/current"
    changed=1
    restart_daemon
    for path in "$prefix"/versions/*; do
        [[ $path == "$prefix/versions/$version" || $path == "$prefix/$previous" ]] || rm -rf "$path"
    done
}

# It serves launchers of its own version only; until it is restarted, they work alone.
restart_daemon() {
    [[ $prefix == /opt/plexus ]] && has_command systemctl || return 0
    systemctl --quiet try-restart plexus.service || say "note: restart the node daemon: systemctl restart plexus.service"
}

# --- The commands --------------------------------------------------------------------------------------------------

check_paths() {
    local path
    for path in "$prefix" "$bin_dir" $conf_dir; do
        [[ $path != *[[:space:]]* ]] || die "\"$path\" contains white space, which the kernel does not take in a #! line"
    done
    ((${#prefix} < 255 - 44)) || die "--prefix is too long: the kernel takes 254 characters in a #! line"
}

lock_prefix() {
    exec {lock}<"$prefix"
    flock -w 300 "$lock" || die "another install.sh is at work in $prefix"
    [[ -d $prefix ]] || die "$prefix was uninstalled meanwhile; run this again"
}

install_plexus() {
    ensure_packages "$@"
    python=$(find_python)
    version=$(version_id)
    shebang="#!$prefix/versions/$version/bin/python3 -IS"
    packages=$(packages_of "$prefix/versions/$version")
    socket=$(socket_of "$prefix")
    changed=0
    ensure_directory "$prefix"
    lock_prefix
    trap clean_up EXIT
    build_version
    ensure_directory "$bin_dir"
    place_launchers
    switch_version
    if [[ $conf_dir ]]; then
        ensure_directory "$conf_dir"
        place_conf
    fi
    if ((changed)); then say "installed plexus in $prefix, launchers in $bin_dir"; else say "plexus is installed: nothing changed"; fi
}

uninstall() {
    local path kind
    if [[ ! -e $prefix/installed ]]; then
        say "plexus is not installed in $prefix: nothing changed"
        return
    fi
    [[ ${lock-} ]] || lock_prefix
    for kind in restore_aside remove_conf remove_file remove_launcher; do
        while read -r path; do [[ ! $path ]] || "$kind" "$path"; done <<<"$(recorded "${kind#*_}")"
    done
    local directories
    directories=$(recorded directory)
    rm -rf "$prefix"/{versions,current,.current.tmp,replaced,written}
    rm -f "$prefix/installed"
    while read -r path; do [[ ! -d $path ]] || rmdir --ignore-fail-on-non-empty "$path"; done <<<"$directories"
    say "uninstalled plexus from $prefix"
}

demo() {
    if [[ ! $prefix_given ]]; then
        work=$(mktemp -d "${TMPDIR:-/tmp}/plexus-demo.XXXXXX")
        trap clean_up EXIT
        prefix=$work/opt/plexus
        [[ $bin_dir_given ]] || bin_dir=$work/opt/cni/bin
        check_paths
    fi
    install_plexus ip=iproute2 nft=nftables ping=iputils-ping
    exec {lock}<&-
    say
    "$source_dir/conf-examples/demo/run.sh" "$bin_dir"
}

# A build that failed leaves nothing; on a machine that had no plexus, really nothing.
clean_up() {
    if [[ ${unfinished-} ]]; then
        rm -rf "$unfinished"
        [[ -e $prefix/current ]] || uninstall >/dev/null
    fi
    [[ ! ${work-} ]] || rm -rf "$work"
}

refuse() {
    printf 'install.sh: %s\n\n' "$1" >&2
    usage >&2
    exit 2
}

parse_arguments() {
    action=install replace=0 as_multus=0 prefix=/opt/plexus bin_dir=/opt/cni/bin conf_dir='' prefix_given='' bin_dir_given=''
    while (($#)); do
        case $1 in
        --help | -h) action=usage ;;
        --demo) action=demo ;;
        --uninstall) action=uninstall ;;
        --replace) replace=1 ;;
        --as-multus) as_multus=1 ;;
        --prefix=* | --bin-dir=* | --conf-dir=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
        --prefix | --bin-dir | --conf-dir)
            [[ ${2-} == [!-]* ]] || refuse "$1 needs a directory"
            case $1 in
            --prefix) prefix=$(realpath -ms -- "$2") prefix_given=1 ;;
            --bin-dir) bin_dir=$(realpath -ms -- "$2") bin_dir_given=1 ;;
            --conf-dir) conf_dir=$(realpath -ms -- "$2") ;;
            esac
            shift
            ;;
        *) refuse "unknown argument: $1" ;;
        esac
        shift
    done
}

main() {
    parse_arguments "$@"
    if [[ $action == usage ]]; then
        usage
        return
    fi
    check_paths
    ((EUID == 0)) || die "run this as root"
    case $action in
    install) install_plexus ;;
    uninstall) uninstall ;;
    demo) demo ;;
    esac
}

# tests/run.sh takes the functions of this file and runs none of them here.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
