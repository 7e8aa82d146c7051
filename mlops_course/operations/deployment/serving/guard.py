"""A guard in front of an application: who may ask, under which name, and that no page of another site writes to it.

Any page that is open in a browser can send requests to a server on the same machine or network. Such a page cannot
forge the headers `Host` and `Origin`, and cannot send JSON without asking first.
"""

import base64
import binascii
import hmac
import ipaddress
import json
import socket
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import psutil

LOCAL = ("127.0.0.1", "localhost", "::1")
READING = ("GET", "HEAD", "OPTIONS")
OPEN = ("/live", "/ready")  # without a token too: whoever starts and stops the service asks them

Headers = dict[bytes, list[str]]  # values by name in small letters
Refusal = tuple[int, str] | None  # status and reason


def host_names(host: str, *, also: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names and addresses by which callers know a server that listens on `host`, and those in `also`.

    A server on every network (0.0.0.0 or ::) goes by each address of this machine and by the machine's own names.
    """
    known = {host, *also}
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address and address.is_loopback):
        known |= {*LOCAL}
    else:
        name = socket.gethostname()
        known |= {name, socket.getfqdn(), f"{name}.local"}
    if address and address.is_unspecified:
        inet = (socket.AF_INET, socket.AF_INET6)
        known |= {one.address for of in psutil.net_if_addrs().values() for one in of if one.family in inet} | {*LOCAL}
    return tuple(sorted(name.partition("%")[0].lower() for name in known))


class Guard:
    """Middleware for an ASGI application that goes by the names in `hosts`.

    It refuses, before the application sees anything: a request under another name (421), a request that writes and
    comes from a page of another site (403), a body that is not declared as JSON (415), and, if there is a `token`,
    every request without it (401) except for those in `OPEN`. Programs send it as a bearer token; a browser asks for a
    password, and any user name will do. `refused` is told the status of each refusal.
    """

    def __init__(
        self,
        app: Any,
        *,
        hosts: Iterable[str] = LOCAL,
        token: str = "",
        refused: Callable[[int], None] = lambda status: None,
    ) -> None:
        self.app, self.token, self.refused = app, token, refused
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Refuse a request, or hand it to the application."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent: Headers = {}
        for name, value in scope["headers"]:
            sent.setdefault(name.lower(), []).append(value.decode("latin-1").strip())
        known = scope["path"] in OPEN or self._is_known(sent)
        refusal = self._refuse_sender(scope["method"], sent) or (
            None if known else (401, "expected the token of this service")
        )
        if refusal is None:
            await self.app(scope, receive, send)
            return
        status, why = refusal
        self.refused(status)
        body = json.dumps({"detail": why}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            headers += [(b"www-authenticate", b"Bearer"), (b"www-authenticate", b'Basic realm="service"')]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _is_known(self, sent: Headers) -> bool:
        """Whether the request brings the token, or there is none."""
        if not self.token:
            return True
        scheme, _, given = "".join(sent.get(b"authorization", [])).partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode("latin-1").partition(":")[2]
            except (binascii.Error, ValueError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.strip().encode(), self.token.encode())

    def _refuse_sender(self, method: str, sent: Headers) -> Refusal:
        """Status and reason for refusing a request because of where it comes from or goes to, or None."""
        host = sent.get(b"host", [])
        if len(host) != 1 or _name(host[0]) not in self.hosts:
            return 421, (
                f"expected one of this server's names as Host ({', '.join(sorted(self.hosts))}), got {host}; if it is "
                "called so, name it when you start the server: --allow-host"
            )
        if method in READING:
            return None
        others = [origin for origin in sent.get(b"origin", []) if origin.partition("://")[2].lower() != host[0].lower()]
        if others or "cross-site" in sent.get(b"sec-fetch-site", []):
            return 403, f"expected a request from a program or from this server's own pages, got one from {others}"
        length = sent.get(b"content-length", ["0"])
        kinds = [kind.partition(";")[0].strip().lower() for kind in sent.get(b"content-type", [])]
        if (length != ["0"] or b"transfer-encoding" in sent or kinds) and kinds != ["application/json"]:
            return 415, f"expected a body with the content type application/json, got {kinds or 'none'}"
        return None


def _name(host: str) -> str | None:
    """The name in a Host header, without its port; None if it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
