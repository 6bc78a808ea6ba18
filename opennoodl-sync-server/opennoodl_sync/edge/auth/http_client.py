"""The HTTP client for requests to an issuer or to GitHub, with a bound on time and size.

It uses the proxies of the environment (``http_proxy``, ``https_proxy``, ``no_proxy``) and follows no redirects. It
checks certificates against those of the system, so an organisation can add its own authority.
"""

from __future__ import annotations

import asyncio
import ssl

import httpx


def new_client(timeout: float, *, keep: int = 10, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    """Return a client; the caller has to close it.

    Args:
        timeout: seconds for each step of a request, such as a read. To connect, with TLS, half of it: httpx closes a
            connection after its own timeout, but not if the handshake is cancelled from outside.
        keep: number of connections that stay open for the next request.
        headers: headers for every request.
    """
    return httpx.AsyncClient(
        headers={"Accept-Encoding": "identity", **(headers or {})},  # the size of compressed content has no bound
        timeout=httpx.Timeout(timeout, connect=timeout / 2),
        verify=ssl.create_default_context(),
        limits=httpx.Limits(max_keepalive_connections=keep),
    )


async def read(response: httpx.Response, most: int) -> bytes:
    """Return the body of a response.

    Args:
        response: the response, of which only the headers have been read.
        most: the bytes that the body may have.

    Raises:
        httpx.HTTPError: the body did not arrive.
        ValueError: the body has more than `most` bytes.
    """
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > most:
            raise ValueError(f"the answer is larger than {most} bytes")
    return bytes(body)


async def fetch(client: httpx.AsyncClient, url: str, seconds: float, most: int) -> bytes:
    """Send a GET request; return the body of a successful response.

    Args:
        client: from `new_client`.
        url: an http:// or https:// URL.
        seconds: time for the whole request.
        most: the bytes that the body may have.

    Raises:
        httpx.HTTPError: there is no response.
        httpx.InvalidURL: the URL is not valid.
        TimeoutError: the response takes too long.
        ValueError: the body is too large, or the status is not 2xx.
    """
    async with asyncio.timeout(seconds), client.stream("GET", url) as response:
        if not response.is_success:
            raise ValueError(f"the answer has the status {response.status_code}")
        return await read(response, most)
