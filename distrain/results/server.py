"""The server of `distrain monitor`: one page, and the news for it.

It has two addresses, `/` and `/data`, and no other: nothing that a request says becomes a path of a file. The gate in
front lets in only requests that read, that name this server as their host, so that no page of another site can reach it
through a name of its own (DNS rebinding), and that have the token, if there is one.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distrain.results.follow import Followed
from distrain.results.news import News

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Gate:
    """Lets requests through to an application that may read; answers the others itself.

    Args:
        app: what is behind it.
        host: the address that the server listens at.
        port: its port; a cookie is named after it, since ports of one host share their cookies.
        token: what a reader has to show: in the address, which is then left, in a cookie, or as bearer; None: nothing.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, token: str | None) -> None:
        self._app = app
        self._token = token
        self._cookie = f"distrain-monitor-{port}"
        self._is_local = is_loopback(host)
        names = [] if self._is_local else [socket.gethostname(), socket.getfqdn()]
        self._names = {name.lower() for name in (*_LOOPBACK, host, *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"this server speaks HTTP only, not {scope['type']}")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                had = {name.lower() for name, _ in message["headers"]}
                new = [(key.lower().encode(), value.encode()) for key, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in new if pair[0] not in had)]
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse, RedirectResponse

        request = Request(scope)
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._is_mine(hosts[0]):
            return PlainTextResponse("This server has another name; use the address that it has printed.\n", 403)
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Here one can only read.\n", 405, {"Allow": "GET, HEAD"})
        if self._token is None:
            return None
        if self._is_token(request.query_params.get("token")) and request.url.path == "/":
            answer = RedirectResponse("/", 303)  # so the token is not in the address, nor in what is said about it
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="lax")
            return answer
        bearer = request.headers.get("authorization", "").partition("Bearer ")[2]
        if self._is_token(request.cookies.get(self._cookie)) or self._is_token(bearer):
            return None
        return PlainTextResponse("The token is missing or wrong; open the address that the monitor has printed.\n", 401)

    def _is_token(self, given: str | None) -> bool:
        """Compares in a time that does not tell how much of it is right."""
        return bool(given) and hmac.compare_digest(str(given).encode(), str(self._token).encode())

    def _is_mine(self, host: str) -> bool:
        """Whether a Host header names this server: with any port, as a tunnel has another one. Numbers are no names, so
        nobody can make them lead elsewhere."""
        name, colon, port = host.strip().lower().rpartition(":")
        if not colon or not port.isdigit():
            name = host.strip().lower()
        name = name.removeprefix("[").removesuffix("]").removesuffix(".")
        return name in self._names or (not self._is_local and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only processes of this machine reach a server at that address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def application(followed: Sequence[Followed], host: str, port: int, token: str | None) -> ASGIApp:
    """The server as an ASGI application; see `Gate` for the arguments.

    Args:
        followed: the runs to show.
        host: the address that it listens at.
        port: its port.
        token: what readers have to show, or None.
    """
    from starlette.applications import Starlette
    from starlette.middleware.gzip import GZipMiddleware
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    news = News(followed)

    def page(request: Request) -> Response:
        text, policy = news.page()
        return HTMLResponse(text, headers={"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"})

    def data(request: Request) -> Response:
        return Response(news.since(request.query_params.get("have", "")), media_type="application/json")

    app = Starlette(routes=[Route("/", page, methods=["GET"]), Route("/data", data, methods=["GET"])])
    return Gate(GZipMiddleware(app, compresslevel=4), host, port, token)
