"""Which addresses of the internet are anybody's, and which belong to this machine and the networks round it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

PROTOCOLS = IPv4Network("192.0.0.0/24")
RELAYS = IPv4Network("192.88.99.0/24")
GLOBAL_UNICAST = IPv6Network("2000::/3")
SIX_TO_FOUR = IPv6Network("2002::/16")
TEREDO = IPv6Network("2001::/32")
NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether a host with this address is reached over the internet, and is one host. False for what is no address.

    An IPv4 address inside an IPv6 one counts as itself where a network may really use it (mapped, NAT64); other
    ways to write one (compatible, 6to4, Teredo) have no use and are not public.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public_v4(ip.ipv4_mapped)
        if ip in NAT64:
            return is_public_v4(IPv4Address(int(ip) & 0xFFFF_FFFF))
        return ip in GLOBAL_UNICAST and ip.is_global and ip not in SIX_TO_FOUR and ip not in TEREDO
    return is_public_v4(ip)


def is_public_v4(ip: IPv4Address) -> bool:
    """The same of an IPv4 address."""
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip not in PROTOCOLS and ip not in RELAYS
