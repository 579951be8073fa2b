"""Where a request comes from: the address of its TCP peer, or what the proxies in front of us say about it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network


def client_address(peer: str, forwarded: Sequence[str], proxies: int) -> str:
    """The address that counts as one client; of IPv6, its network of 64 bits, which is what one customer gets.

    Args:
        peer: the TCP peer's address; "" for one that has none (a Unix socket).
        forwarded: the values of `X-Forwarded-For`, in order. Each proxy adds the address that it sees at the end, so
            only the last `proxies` of them are believed: what stands before was sent by the client, who may lie.
    """
    hops = [hop.strip() for value in forwarded for hop in value.split(",")][-proxies:] if proxies else []
    for name in (*hops[:1], peer):
        try:
            address = ip_address(name)
        except ValueError:
            continue
        if isinstance(address, IPv6Address):
            return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False))
        return str(address)
    return ""
