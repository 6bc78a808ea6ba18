"""The HTTP client: what an issuer or GitHub answers, within a time and a size.

The proxies of the environment are used (``http_proxy``, ``https_proxy``, ``no_proxy``), redirects are not followed, and
certificates are checked against the system's, so that an organisation's own authority can be among them.
"""

from __future__ import annotations

import asyncio
import ssl

import httpx


def new_client(timeout: float, *, keep: int = 10, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    """Return a client; its owner closes it.

    Args:
        timeout: seconds for each step of a request, such as a read, and half of it to connect and for TLS: httpx
            closes a connection that is too slow, but not one whose handshake is cancelled from outside.
        keep: connections that stay open for the next request.
        headers: of every request.
    """
    return httpx.AsyncClient(
        headers={"Accept-Encoding": "identity", **(headers or {})},  # what is compressed has no bound
        timeout=httpx.Timeout(timeout, connect=timeout / 2),
        verify=ssl.create_default_context(),
        limits=httpx.Limits(max_keepalive_connections=keep),
    )


async def read(response: httpx.Response, most: int) -> bytes:
    """Return the body of an answer.

    Raises:
        httpx.HTTPError: it did not arrive.
        ValueError: it has more than `most` bytes.
    """
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > most:
            raise ValueError(f"the answer is larger than {most} bytes")
    return bytes(body)


async def fetch(client: httpx.AsyncClient, url: str, seconds: float, most: int) -> bytes:
    """Return the body of the answer to a GET, if it is a success.

    Args:
        client: from `new_client`.
        url: of http or https.
        seconds: for all of it.
        most: bytes of the body.

    Raises:
        httpx.HTTPError: there is no answer.
        httpx.InvalidURL: the URL cannot be asked.
        TimeoutError: the answer takes too long.
        ValueError: it is too large, or no success.
    """
    async with asyncio.timeout(seconds), client.stream("GET", url) as response:
        if not response.is_success:
            raise ValueError(f"the answer has the status {response.status_code}")
        return await read(response, most)
