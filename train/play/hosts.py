"""Refuse requests to the page of `play` from other sites and under other names than this machine's."""

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class OwnHosts:
    """ASGI middleware that refuses requests under other names, and those that another site's script sends.

    A site can have its name resolve to 127.0.0.1 (DNS rebinding); its script then reads what this machine serves, but
    its requests bear the site's name as `Host`. A script of a site that keeps its name has that in `Origin`.

    Args:
        app: what answers other requests.
        names: host names and addresses, without port, under which the page is served.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self.app, self.names = app, {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with status 403 and one sentence, or hand the request on."""
        if scope["type"] in ("http", "websocket") and (problem := self._problem(Headers(scope=scope))):
            await PlainTextResponse(problem, status_code=403)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _problem(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if _name(host) not in self.names:
            names = ", ".join(sorted(self.names))
            return f"the page must be asked for under {names}, got another host; give its name as play --host."
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return "the page answers to itself alone, got a request of another site; open the page in a tab of its own."
        return None


def own_hosts(host: str) -> list[Middleware]:
    """Middleware for a page that listens at an address; none for 0.0.0.0 or ::, which are there for other machines.

    Args:
        host: `PlayConfig.host`.
    """
    try:
        if ip_address(host).is_unspecified:
            return []
    except ValueError:  # a name
        pass
    return [Middleware(OwnHosts, names=(*_THIS_MACHINE, host))]


def _name(host: str) -> str | None:
    """A `Host` header without its port; None where it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
