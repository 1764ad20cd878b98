"""`distrain monitor`: a page in the browser that follows trainings."""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import socket
import sys
from collections.abc import Sequence

from distrain.errors import ArgumentError, DistrainError
from distrain.results.follow import Followed, follow
from distrain.results.server import application, is_loopback

_USAGE_ERROR = 2
_PORT = 8642
_PORTS = 20  # that are tried, if the user names none
_NEEDS = ("starlette", "uvicorn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C and returns the exit code: 0, or 2 if there is nothing to follow or nowhere to listen."""
    parser = argparse.ArgumentParser(
        prog="distrain monitor", description="Serves a page that follows one training or several while they run."
    )
    parser.add_argument("results", nargs="+", metavar="RESULT", help="a result folder, or the log in it")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen at (default: %(default)s: for this machine only); any other one needs the token "
        "that is printed",
    )
    parser.add_argument("--port", type=int, help=f"the port (default: the first free one from {_PORT} on; 0: any)")
    parser.add_argument(
        "--token", action="store_true", help="ask for a token here too, so that other users of this machine see nothing"
    )
    options = parser.parse_args(arguments)
    try:
        missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
        if missing:
            raise ArgumentError(f"this needs {' and '.join(missing)}: pip install 'distrain[monitor]'")
        followed = follow(options.results)
        listening = _listen(options.host, options.port)
    except DistrainError as error:
        print(f"distrain monitor: {error}", file=sys.stderr)
        return _USAGE_ERROR
    token = secrets.token_urlsafe(24) if options.token or not is_loopback(options.host) else None
    with listening:
        _serve(followed, listening, options.host, token)
    return 0


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens.

    Raises:
        ArgumentError: it cannot.
    """
    if port is not None and not 0 <= port < 2**16:
        raise ArgumentError(f"--port {port} is none: ports are numbers from 0 to 65535.")
    ports = range(_PORT, _PORT + _PORTS) if port is None else (port,)
    problem: OSError | None = None
    for one in ports:
        try:
            family = socket.getaddrinfo(host, one, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, one), family=family, backlog=64)
        except OSError as error:
            problem = error
    where = f"port {port}" if port is not None else f"any port from {_PORT} to {_PORT + _PORTS - 1}"
    reason = str(getattr(problem, "strerror", None) or problem).partition(" (while")[0]
    raise ArgumentError(f"cannot listen at {host}, {where}: {reason}. Give another --port, or --port 0 for any.")


def _serve(followed: Sequence[Followed], listening: socket.socket, host: str, token: str | None) -> None:
    import uvicorn

    port = listening.getsockname()[1]
    app = application(followed, host, port, token)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # it would show the token
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        limit_concurrency=100,
        timeout_graceful_shutdown=2,
    )
    names = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}
    name = names.get(host, f"[{host}]" if ":" in host else host)
    print(f"http://{name}:{port}/" + (f"?token={token}" if token else ""), flush=True)
    print("Ctrl-C ends it.", flush=True)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # which the server has been ended by
        print()


if __name__ == "__main__":
    sys.exit(main())
