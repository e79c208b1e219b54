"""Expressions, of which rules of nftables consist: something is loaded into a register, and then compared.

Names and numbers are those of <linux/netfilter/nf_tables.h>; attributes have the order in which the kernel tells them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cni.linux.attributes import Value, attribute, content, joined, read, text

LIST_ELEM, EXPR_NAME, EXPR_DATA = 1, 1, 2
META_DREG, META_KEY = 1, 2
PAYLOAD_DREG, PAYLOAD_BASE, PAYLOAD_OFFSET, PAYLOAD_LEN = 1, 2, 3, 4
BITWISE_SREG, BITWISE_DREG, BITWISE_LEN, BITWISE_MASK, BITWISE_XOR, BITWISE_OP = 1, 2, 3, 4, 5, 6
CMP_SREG, CMP_OP, CMP_DATA = 1, 2, 3
IMMEDIATE_DREG, IMMEDIATE_DATA = 1, 2
DATA_VALUE, DATA_VERDICT = 1, 2
VERDICT_CODE, VERDICT_CHAIN = 1, 2
REG_VERDICT, REG_1 = 0, 1

IIFNAME, NFPROTO = 6, 15
"""Keys of `meta`."""
LL_HEADER, NETWORK_HEADER = 0, 1
"""Bases of `payload`."""
EQUAL, UNEQUAL = 0, 1
"""Operators of `compare`."""
DROP, JUMP, GOTO, RETURN = 0, -3, -4, -5
"""Verdicts."""
NFPROTO_IP = {4: 2, 6: 10}
SOURCE, DESTINATION, LENGTH = {4: 12, 6: 8}, {4: 16, 6: 24}, {4: 4, 6: 16}
"""Where addresses are in the headers of IPv4 and IPv6, and how long."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Expression:
    """One expression, and its attributes by their types."""

    name: str
    attributes: Mapping[int, bytes]

    @property
    def value(self) -> bytes:
        """What it compares with, if it does."""
        return dict(read(self.attributes.get(CMP_DATA, b""))).get(DATA_VALUE, b"")


def pack(expressions: Iterable[Expression]) -> bytes:
    """The list of expressions that a rule's attribute has."""
    named = (((EXPR_NAME, each.name), (EXPR_DATA, joined(*each.attributes.items()))) for each in expressions)
    return b"".join(attribute(LIST_ELEM, joined(*each)) for each in named)


def unpack(data: bytes) -> list[Expression]:
    """The expressions that a rule's attribute lists."""
    elements = (dict(read(element)) for _, element in read(data))
    return [Expression(text(each.get(EXPR_NAME, b"")), dict(read(each.get(EXPR_DATA, b"")))) for each in elements]


def meta(key: int) -> Expression:
    """Load what is known of a packet beside its bytes."""
    return _expression("meta", (META_KEY, key), (META_DREG, REG_1))


def payload(base: int, offset: int, length: int) -> Expression:
    """Load bytes of a packet."""
    place = ((PAYLOAD_BASE, base), (PAYLOAD_OFFSET, offset), (PAYLOAD_LEN, length))
    return _expression("payload", (PAYLOAD_DREG, REG_1), *place)


def mask(bits: bytes) -> Expression:
    """Keep these bits of what is loaded."""
    kept = ((BITWISE_MASK, joined((DATA_VALUE, bits))), (BITWISE_XOR, joined((DATA_VALUE, bytes(len(bits))))))
    registers = ((BITWISE_SREG, REG_1), (BITWISE_DREG, REG_1))
    return _expression("bitwise", *registers, (BITWISE_LEN, len(bits)), (BITWISE_OP, 0), *kept)


def compare(operator: int, value: bytes) -> Expression:
    """End the rule unless what is loaded compares so with the value."""
    return _expression("cmp", (CMP_SREG, REG_1), (CMP_OP, operator), (CMP_DATA, joined((DATA_VALUE, value))))


def verdict(code: int, chain: str = "") -> Expression:
    """Decide what becomes of the packet."""
    decided = joined((VERDICT_CODE, code), *([(VERDICT_CHAIN, chain)] if chain else []))
    return _expression("immediate", (IMMEDIATE_DREG, REG_VERDICT), (IMMEDIATE_DATA, joined((DATA_VERDICT, decided))))


def masquerade() -> Expression:
    """Give the packet the address of the interface that it leaves by."""
    return _expression("masq")


def is_ip(version: int) -> list[Expression]:
    """Go on with packets of IPv4, or of IPv6; chains of the family `inet` have both."""
    return [meta(NFPROTO), compare(EQUAL, bytes([NFPROTO_IP[version]]))]


def load_source(version: int) -> Expression:
    """Load the address that a packet of IP comes from."""
    return payload(NETWORK_HEADER, SOURCE[version], LENGTH[version])


def load_source_mac() -> Expression:
    """Load the MAC that a frame of Ethernet comes from."""
    return payload(LL_HEADER, 6, 6)


def compare_destination(operator: int, network: Network) -> list[Expression]:
    """Go on where a packet of IP is going into the network, or not; `nft` too spares the mask of whole bytes."""
    offset, value = DESTINATION[network.version], network.network_address.packed
    length, bits = divmod(network.prefixlen, 8)
    if length and not bits:
        return [payload(NETWORK_HEADER, offset, length), compare(operator, value[:length])]
    whole = payload(NETWORK_HEADER, offset, len(value))
    return [whole, mask(network.netmask.packed), compare(operator, value)]


def _expression(name: str, *attributes: tuple[int, Value]) -> Expression:
    return Expression(name, {kind: content(value) for kind, value in attributes})
