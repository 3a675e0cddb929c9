"""Fetches a picture by its URL, from allow-listed hosts alone.

Off unless `url_hosts` names some. Every address that a host resolves to must be a public one (unless
`url_private`), checked in the resolver whose answer is connected to, so a name cannot change in between.
Redirects are followed by hand, each checked like the first URL. Bytes and time are bounded.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from framegrid_serve.people.refusal import RefusedError
from framegrid_serve.people.settings import PeopleSettings

MAX_REDIRECTS = 3
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
MAX_URL_CHARS = 2048
_USUAL_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _PrivateAddressError(OSError):
    """A name that resolves to where nobody outside may look."""


class PublicResolver(AbstractResolver):
    """The system's resolver without private, loopback, link-local and reserved addresses."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
        """Raises _PrivateAddressError when any address is not public."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or not all(is_public(address) for address in addresses):
            raise _PrivateAddressError(f"{host} has a private address")
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": entry[0],
                "proto": entry[2],
                "flags": socket.AI_NUMERICHOST,
            }
            for address, entry in zip(addresses, found, strict=True)
        ]

    async def close(self) -> None:
        """Holds nothing."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet, also behind IPv6's ways of writing IPv4."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return ip.is_global and not ip.is_multicast


def check_url(url: str, settings: PeopleSettings) -> SplitResult:
    """The URL taken apart. Raises RefusedError: 403 not allowed, 422 no URL."""
    if not settings.url_hosts:
        raise RefusedError(403, "fetching by URL is off here (people.url_hosts); send the picture itself")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError:
        host, port, parts = "", None, SplitResult("", "", "", "", "")
    if not host or len(url) > MAX_URL_CHARS or any(ord(c) <= 32 for c in url):
        raise RefusedError(422, f"expected a URL of at most {MAX_URL_CHARS} characters, got something else")
    if parts.scheme not in settings.url_schemes:
        raise RefusedError(
            403, f"expected a URL with {' or '.join(settings.url_schemes)}, got {parts.scheme[:16]!r}"
        )
    if parts.username is not None or parts.password is not None:
        raise RefusedError(422, "expected a URL without a user name, got one with")
    named = host if port in (None, _USUAL_PORTS[parts.scheme]) else f"{host}:{port}"
    if not any(_matches(named, allowed) for allowed in settings.url_hosts):
        raise RefusedError(403, f"expected a host of {', '.join(settings.url_hosts)}, got {named[:100]!r}")
    literal = host.strip("[]")
    if not settings.url_private and _is_address(literal) and not is_public(literal):
        raise RefusedError(403, f"expected a public address, got {literal}")
    return parts


async def fetch_picture(url: str, settings: PeopleSettings) -> bytes:
    """The body behind the URL. Raises RefusedError: 403, 413, 422 with what the other side did."""
    check_url(url, settings)
    try:
        return await asyncio.wait_for(_fetch(url, settings), settings.url_timeout_s)
    except asyncio.TimeoutError:
        raise RefusedError(
            422, f"expected the picture within {settings.url_timeout_s:g} s, got no answer in time"
        ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if isinstance(getattr(error, "os_error", error), _PrivateAddressError):  # as aiohttp wraps it
            raise RefusedError(403, "expected a host with public addresses, got a private one") from None
        raise RefusedError(422, f"the picture could not be fetched ({type(error).__name__})") from None


async def _fetch(url: str, settings: PeopleSettings) -> bytes:
    resolver = None if settings.url_private else PublicResolver()
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
    # No proxies of the environment, no cookies, nothing of ours in the request.
    async with aiohttp.ClientSession(
        connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        for _ in range(MAX_REDIRECTS + 1):
            async with session.get(url, allow_redirects=False) as answer:
                if answer.status not in _REDIRECTS:
                    return await _body(answer, settings)
                url = urljoin(url, answer.headers.get("Location", ""))
            check_url(url, settings)
    raise RefusedError(422, f"expected at most {MAX_REDIRECTS} redirects, got more")


async def _body(answer: aiohttp.ClientResponse, settings: PeopleSettings) -> bytes:
    if answer.status != 200:
        raise RefusedError(422, f"expected status 200 from the other side, got {answer.status}")
    limit_bytes = settings.max_image_bytes
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in answer.content.iter_chunked(64 * 1024):
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise RefusedError(413, f"expected a picture of at most {limit_bytes} bytes, got more")
        chunks.append(chunk)
    return b"".join(chunks)


def _matches(named: str, allowed: str) -> bool:
    return named.endswith(allowed[1:]) if allowed.startswith("*.") else named == allowed


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
