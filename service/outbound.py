"""Requests to addresses that users give: guarded, so that nobody reaches through us what only we can reach.

Only http and https, without credentials. The host is resolved once; every address that it has must be public, and the
connection goes to one of these very addresses, whatever the name says a moment later. No redirect is followed, no
proxy is used. Everything together takes `seconds` at most, and little of the answer is read. What is allowed beyond
public hosts is the administrator's choice (`Allowed`).
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpcore
import httpx

SECONDS = 10.0
MOST_BYTES = 64_000  # of an answer
LONGEST_URL = 2000

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[..., Iterable[tuple[Any, ...]]]  # as `socket.getaddrinfo`

# Beyond what `ipaddress` knows: they look public and lead to the machine's own surroundings, or nowhere.
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # the platform of Azure, from within
        "192.0.0.0/24",  # metadata of Oracle's cloud, for one
        "192.88.99.0/24",
        "3fff::/20",
    )
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # the rest of IPv6 is no public host
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class NotAllowed(Exception):
    """This address may not be asked. The message tells the user why, and nothing about our network."""


class Unanswered(Exception):
    """The host was not reached, or did not answer sensibly in time."""


@dataclass(frozen=True)
class Allowed:
    """What may be reached although it is not public: host names, and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def read(cls, entries: Iterable[str]) -> Allowed:
        """From hosts, addresses and networks in CIDR notation, as people write them."""
        hosts, networks = [], []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                hosts.append(entry.lower().rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def allows(self, host: str, address: Ip) -> bool:
        inside = any(address.version == net.version and address in net for net in self.networks)
        return inside or host in self.hosts or is_public(address)


@dataclass(frozen=True)
class Target:
    """An address that has passed all checks that need no question to a name server."""

    url: httpx.URL
    host: str
    port: int


def check_url(text: str, allowed: Allowed) -> Target:
    """Raises `NotAllowed` for what can be told from the address alone."""
    if len(text) > LONGEST_URL or not text.isprintable() or " " in text or "\\" in text:
        raise NotAllowed(f"the address must have at most {LONGEST_URL} characters, without spaces and backslashes")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise NotAllowed(f"this is no address: {error}") from None
    if url.scheme not in ("http", "https"):
        raise NotAllowed("the address must begin with https:// or http://")
    if url.userinfo:
        raise NotAllowed("the address must not contain a user name or password")
    host = url.raw_host.decode("ascii").lower().rstrip(".")
    if not host:
        raise NotAllowed("the address names no host")
    port = url.port if url.port is not None else {"http": 80, "https": 443}[url.scheme]
    if not 0 < port < 65536:
        raise NotAllowed("the port must be between 1 and 65535")
    address = _literal(host)
    if address is not None and not allowed.allows(host, address):
        raise _not_public()
    return Target(url, host, port)


def resolve(target: Target, allowed: Allowed, resolver: Resolver = socket.getaddrinfo) -> list[str]:
    """The addresses of the host, asked for once. Raises `NotAllowed` when any may not be reached, `Unanswered`."""
    try:
        found = list(resolver(target.host, target.port, type=socket.SOCK_STREAM))
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    except (OSError, UnicodeError, ValueError) as error:
        raise Unanswered(f"the host name cannot be resolved: {error}") from None
    if not addresses:
        raise Unanswered("the host name has no address")
    if not all(allowed.allows(target.host, address) for address in addresses):
        raise _not_public()
    return list(dict.fromkeys(str(address) for address in addresses))


def post(
    text: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allowed: Allowed,
    seconds: float = SECONDS,
    most_bytes: int = MOST_BYTES,
    resolver: Resolver = socket.getaddrinfo,
) -> int:
    """POST the body; the status of the answer. Raises `NotAllowed` or `Unanswered`."""
    target = check_url(text, allowed)
    deadline = time.monotonic() + seconds
    addresses = resolve(target, allowed, resolver)
    backend = _Pinned(addresses, deadline)
    url = str(target.url.copy_with(fragment=None))
    try:
        with (
            httpcore.ConnectionPool(ssl_context=_tls(), network_backend=backend, retries=0) as pool,
            pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
        ):
            read = 0
            for chunk in response.iter_stream():
                read += len(chunk)
                if read > most_bytes:
                    break
            return response.status
    except httpcore.TimeoutException:
        raise Unanswered(f"it did not answer within {seconds:g} seconds") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise Unanswered(f"{type(error).__name__}: {error}"[:500]) from None


def is_public(address: Ip) -> bool:
    """Whether anybody on the internet could reach it: not private, local, reserved, shared, or for many."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour is not None and not is_public(address.sixtofour):
            return False
        if address not in _UNICAST:
            return False
    surroundings = any(address.version == net.version and address in net for net in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not surroundings


def _literal(host: str) -> Ip | None:
    """The address that a host is, None for a name. Raises `NotAllowed` for numbers written in an odd way."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        socket.inet_aton(host)  # takes 2130706433, 0x7f.1 and 017700000001, all of them 127.0.0.1
    except OSError:
        return None
    raise NotAllowed("write the address of the host as four decimal numbers: 192.0.2.1")


def _not_public() -> NotAllowed:
    return NotAllowed(
        "the host is not public; for one inside your network, ask the installation's administrator to allow it "
        "(BCD_WEBHOOK_ALLOW)"
    )


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


class _Pinned(httpcore.NetworkBackend):
    """Connects to given addresses instead of asking for the host's, all before a deadline."""

    def __init__(self, addresses: Sequence[str], deadline: float):
        self._addresses, self._deadline = addresses, deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore.NetworkStream:
        fault: Exception = httpcore.ConnectError("no address")
        for place, address in enumerate(self._addresses):
            # Of several a dead one must not use up the time of the others.
            patience = _left(self._deadline) / (len(self._addresses) - place)
            try:
                return _Limited(self._inner.connect_tcp(address, port, timeout=patience), self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
        raise fault


class _Limited(httpcore.NetworkStream):
    """A connection that ends at a deadline, however slowly the other side drips."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float):
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, timeout=_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout=_left(self._deadline))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, timeout=_left(self._deadline))
        return _Limited(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is over")
    return left
