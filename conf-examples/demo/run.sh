#!/usr/bin/env bash
# Shows plexus at work on a node that lives in namespaces of its own; nothing of this machine's network is touched.
# Run by ./install.sh --demo; by hand: conf-examples/demo/run.sh DIRECTORY-OF-THE-LAUNCHERS. The exit status tells.
set -euo pipefail

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pod=default/virt-launcher-testvm-6zk4x
sandbox=/run/netns/testvm
nic=pod2ec8d57a9eb
mac=02:00:00:64:00:0a

main() {
    # All namespaces end with this process, however it ends: this one is the node, and /run/netns is in it alone.
    if [[ ${1-} != --inside ]]; then
        exec unshare --mount --net "${BASH_SOURCE[0]}" --inside "$(realpath -- "${1:?the directory of the launchers}")"
    fi
    bin_dir=$2
    PATH=$PATH:/usr/sbin:/sbin
    work=$(mktemp -d "${TMPDIR:-/tmp}/plexus-node.XXXXXX")
    trap clean_up EXIT
    mount -t tmpfs tmpfs /run
    cd "$work"

    build_node
    write_configuration
    attach
    look
    detach
    prove_that_nothing_is_left
    finished=1
    printf '\nAll of it held.\n'
}

build_node() {
    step "A node: the bridge multus-bridge, and on it an uplink to the host \"outside\", which is 192.168.100.1"
    node ip link set lo up
    node ip link add multus-bridge up type bridge
    ip netns add outside
    node ip link add uplink master multus-bridge up type veth peer name eth0 netns outside
    outside ip address add 192.168.100.1/24 dev eth0
    outside ip link set eth0 up
    step "A pod's sandbox, as the container runtime makes it"
    node ip netns add testvm
    links_before=$(links)
}

# Below a temporary directory, instead of the places that an ordinary installation has.
write_configuration() {
    local source
    step "The configuration: plexus is every pod's plugin, networks and pods come from manifests"
    mkdir net.d manifests
    place "$examples/10-plexus.conflist" net.d
    for source in "$examples"/demo/manifests/*.yaml; do
        place "$source" manifests
    done
    node cat manifests/multus-br.yaml
    node grep -A 1 networks: manifests/virt-launcher.yaml
    export NETCONFPATH=$work/net.d CNI_PATH=$bin_dir
}

place() {
    # The network of the manifests has its leases there, which only the node's configuration may allow.
    sed -e "s#\"manifests\": #\"hostPaths\": [\"$work/state\"], &#" \
        -e "s#\"/etc/plexus/manifests\"#\"$work/manifests\"#" -e "s#\"/etc/cni/#\"$work/#" \
        -e "s#\"/opt/cni/bin\"#\"$bin_dir\"#" -e "s#\"/var/lib/cni/#\"$work/state/#" "$1" >"$2/$(basename "$1")"
}

attach() {
    step "Attach the pod to the default network, and to multus-br as its annotation asks"
    node plexus attach --pod "$pod" --netns "$sandbox" --cache-dir state
    step "The network-status, from which KubeVirt learns which interface is which network"
    node cat "state/plexus/network-status/$pod.json"
}

look() {
    local address
    address=$(nsenter --net="$sandbox" ip -4 -oneline address show dev "$nic" | sed 's/.* inet \([0-9.]*\).*/\1/')
    step "The pod reaches the outside through its second NIC, and the outside reaches the pod"
    inside ping -n -q -c 3 -i 0.2 -W 2 -I "$nic" 192.168.100.1
    outside ping -n -q -c 3 -i 0.2 -W 2 "$address"
    step "The second NIC has the MAC that KubeVirt asked for, and the bridges have their ports"
    inside ip -brief link show dev "$nic"
    nsenter --net="$sandbox" ip link show dev "$nic" | grep -qF "$mac"
    node bridge link show
    step "CHECK: every plugin finds its work as it left it"
    node plexus check --pod "$pod" --cache-dir state
    say "no complaint"
}

detach() {
    step "Detach the pod"
    node plexus detach --pod "$pod" --cache-dir state
}

prove_that_nothing_is_left() {
    step "What is left"
    expect_nothing "interfaces in the pod" "$(nsenter --net="$sandbox" ip -brief link | grep -v '^lo ' || true)"
    # The bridge of the default network was made for the first pod, and stays for the next one.
    expect_nothing "interfaces on the node" "$(diff <(echo "$links_before") <(links | grep -vx cni0) || true)"
    expect_nothing "leases" "$(find state/networks -type f ! -name '.*' ! -name lock ! -name 'last_reserved_ip.*')"
    expect_nothing "records, results, network-status" "$(find state -path state/networks -prune -o -type f ! -name executing.lock -print)"
    expect_nothing "masquerade rules" "$(nft list ruleset | grep -w masquerade || true)"
}

links() { ip -brief link | sed 's/[ @].*//' | sort; }

step() {
    current=$*
    printf '\n== %s\n' "$*"
}

say() { printf '    %s\n' "$*"; }

# Shows a command and what it prints.
show() {
    local where=$1
    shift
    printf '  %s$ %s\n' "$where" "$*"
    # Where iproute2 is asked for `bridge`, the plugin of that name must not answer: it is not in PATH.
    if [[ $1 == plexus ]]; then set -- "$bin_dir/plexus" "${@:2}"; fi
    if [[ $where == pod ]]; then set -- nsenter --net="$sandbox" "$@"; fi
    if [[ $where == outside ]]; then set -- nsenter --net=/run/netns/outside "$@"; fi
    "$@" 2>&1 | awk 'NF { print "    " $0 }'
}

node() { show node "$@"; }

inside() { show pod "$@"; }

outside() { show outside "$@"; }

expect_nothing() {
    if [[ $2 ]]; then
        say "$1:"
        say "$2"
        return 1
    fi
    say "$1: none"
}

clean_up() {
    [[ ${finished-} ]] || printf '\nThe demo failed at: %s\n' "${current-its start}" >&2
    rm -rf "$work"
}

main "$@"
