"""A network namespace as `ip`, `bridge`, `nft` and iptables-save show it, in values that can be compared.

Left out is what is different every time (indices, counters, timers) or not settled yet when a plugin has returned
(link-local addresses, the state of duplicate detection, whether a carrier has been noticed).
"""

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

MARK = "@@@@"
SCRIPT = f"""
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C
ip -json -d addr; echo {MARK}
ip -json -4 route show table all; echo {MARK}
ip -json -6 route show table all; echo {MARK}
ip -json -4 rule; echo {MARK}
ip -json -6 rule; echo {MARK}
bridge -json vlan; echo {MARK}
grep -s . /proc/sys/net/ipv[46]/conf/*/* /proc/sys/net/ipv4/ip_forward; echo {MARK}
rules=$(nft --stateless list ruleset); echo "$rules"; echo {MARK}
case "$rules" in *"table ip nat"* | *"table ip6 nat"* | *"table ip filter"*) iptables-save; ip6tables-save ;; esac
"""
IPTABLES = re.compile(r"table ip6? (?:nat|filter|mangle|raw|security) ")
COMMENTS = "(comments)"
PORT = ("hairpin", "isolated", "learning", "flood", "guard", "proxy_arp", "neigh_suppress")
BRIDGE = ("vlan_filtering", "stp_state", "ageing_time", "forward_delay", "mcast_snooping")
ROUTE_WORDS = ("protocol", "scope", "prefsrc", "metric", "type")
PER_CONF = re.compile(r"/proc/sys/net/(ipv[46])/conf/([^:]+)/([^/:]+):(.*)")
REPEATED = ("mtu",)
"""Settings that say what the link says too."""


def take(netns: str) -> dict[str, Any]:
    """What is in the namespace at this path."""
    command = ["nsenter", f"--net={netns}", "sh", "-c", SCRIPT]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    addr, routes4, routes6, rules4, rules6, vlans, settings, nft, iptables = shown.split(f"{MARK}\n")
    links = [entry for entry in json.loads(addr) if entry]
    conf = _settings(settings.splitlines())
    return {
        "names": [link["ifname"] for link in links],
        "links": {link["ifname"]: _link(link, conf) for link in links if link["ifname"] != "lo"},
        "routes": [_route(route) for text in (routes4, routes6) for route in _entries(text) if _matters(route)],
        "rules": [_words(rule) for text in (rules4, rules6) for rule in _entries(text) if rule["priority"] % 32766 > 1],
        "vlans": {entry["ifname"]: [_words(vlan) for vlan in entry["vlans"]] for entry in _entries(vlans)},
        "forwarding": {family: conf[family, "all"].get("forwarding", "0") for family in ("ipv4", "ipv6")},
        "nft": _nft(nft.splitlines()),
        "iptables": [line for line in iptables.splitlines() if re.match(r"-A|:(?:CNI|cni)", line)],
    }


def sort(seen: dict[str, Any]) -> None:
    """Put in order what has none of its own, once random names have got their symbols."""
    seen["names"].sort()
    seen["routes"].sort()


def ends(netns: str) -> dict[str, tuple[int, int]]:
    """Index of each link, and of its other end, which may be in another namespace."""
    command = ["nsenter", f"--net={netns}", "ip", "-json", "link"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return {link["ifname"]: (link["ifindex"], link.get("link_index", 0)) for link in json.loads(shown)}


def macs(seen: dict[str, Any]) -> dict[str, str]:
    """The MAC of each link, ports before the bridges that may have borrowed theirs."""
    links = sorted(seen["links"].items(), key=lambda item: (item[1]["kind"] == "bridge", item[0]))
    return {name: link["mac"] for name, link in links}


def _entries(text: str) -> list[dict[str, Any]]:
    return [entry for entry in json.loads(text or "[]") if entry]


def _link(link: dict[str, Any], conf: dict[tuple[str, str], dict[str, str]]) -> dict[str, Any]:
    info = link.get("linkinfo", {})
    found = {
        "kind": info.get("info_kind", ""),
        "up": "UP" in link["flags"],
        "mac": link["address"],
        "mtu": link["mtu"],
        "txqlen": link.get("txqlen", 0),
        "promisc": link.get("promiscuity", 0),
        "master": link.get("master", ""),
        "alias": link.get("ifalias", ""),
        "port": {key: value for key, value in info.get("info_slave_data", {}).items() if key in PORT},
        "bridge": {key: value for key, value in info.get("info_data", {}).items() if key in BRIDGE},
        "addresses": [f"{entry['local']}/{entry['prefixlen']}" for entry in _addresses(link)],
        "address details": [
            _words(entry, "broadcast", "scope", "noprefixroute", "label") for entry in _addresses(link)
        ],
        "sysctls": {
            f"{family}.{key}": value
            for family in ("ipv4", "ipv6")
            for key, value in conf[family, link["ifname"]].items()
            if value != conf[family, "default"].get(key) and key not in REPEATED
        },
    }
    return {key: value for key, value in found.items() if key == "sysctls" or value not in ("", {}, [], 0)}


def _addresses(link: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in link["addr_info"] if not entry["local"].startswith("fe80:")]


def _matters(route: dict[str, Any]) -> bool:
    return not str(route["dst"]).startswith(("fe80:", "ff00:")) and route.get("table") != "local"


def _route(route: dict[str, Any]) -> str:
    """In the words of `ip route`."""
    via = f" via {route['gateway']}" if "gateway" in route else ""
    metrics = [f"{key} {value}" for metric in route.get("metrics", ()) for key, value in metric.items()]
    table = [f"table {route['table']}"] if "table" in route else []
    # Every IPv6 route has a metric, which is 1024 unless somebody says otherwise.
    words = [
        f"{word} {route[word]}" for word in ROUTE_WORDS if word in route and (word, route[word]) != ("metric", 1024)
    ]
    return " ".join([f"{route['dst']}{via} dev {route['dev']}", *table, *words, *metrics])


def _words(entry: dict[str, Any], *keys: str) -> str:
    chosen = {key: entry[key] for key in keys if key in entry} if keys else entry
    return " ".join(
        f"{key} {json.dumps(value) if isinstance(value, list | dict) else value}" for key, value in chosen.items()
    )


def _settings(lines: Iterable[str]) -> dict[tuple[str, str], dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for line in lines:
        if match := PER_CONF.fullmatch(line):
            family, link, key, value = match.groups()
            found[family, link][key] = value
    return found


def _nft(lines: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Rules by table and chain, and all comments but those of rules; without the tables that belong to iptables."""
    found: dict[str, dict[str, list[str]]] = {}
    table, chain = "", ""
    for line in lines:
        text = line.strip()
        if line.startswith("table "):
            table = text.removeprefix("table ").removesuffix(" {")
            if not IPTABLES.match(line):
                found[table] = {}
        elif text.startswith("comment ") and table in found:
            found[table].setdefault(COMMENTS, []).append(text)
        elif line.startswith("\tchain "):
            chain = text.removeprefix("chain ").removesuffix(" {")
            if table in found:
                found[table][chain] = []
        elif line.startswith("\t\t") and table in found:
            found[table][chain].append(text)
    return found
