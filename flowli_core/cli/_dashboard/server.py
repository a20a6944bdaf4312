"""The server of `flowli dashboard`."""

import getpass
import socket
from ipaddress import ip_address
from types import FrameType
from typing import Any

import click
import uvicorn

from flowli_core._jobs.registry import Jobs
from flowli_core.cli._common.exits import WrongUsageError
from flowli_core.cli._dashboard.links import LinkGate
from flowli_core.dashboard import Dashboard

_DRAIN_SECONDS = 2


def listen(host: str, port: int, *, allow_remote: bool) -> socket.socket:
    """Listen on an address. Raises WrongUsageError if that fails, or if only --allow-remote would permit it."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if not allow_remote and not ip_address(address[0]).is_loopback:
            raise WrongUsageError(
                f"other machines could reach {host}, without encryption; add --allow-remote to permit that"
            )
        return socket.create_server((str(address[0]), port), family=family)
    except socket.gaierror as error:
        raise WrongUsageError(f"--host {host!r} has no address: {error.strerror}") from error
    except OSError as error:
        raise WrongUsageError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error


async def serve(jobs: Jobs[Any], listener: socket.socket, *, read_only: bool, show_payloads: bool) -> None:
    """Serve the dashboard to whoever has a link, until SIGINT or SIGTERM."""
    user = _user_name()
    dashboard = Dashboard(
        jobs, authorize=lambda _, __: user, read_only=read_only, show_payloads=show_payloads, title=type(jobs).__name__
    )
    click.echo("Serving the dashboard until Ctrl-C. Each link works once.", err=True)
    config = uvicorn.Config(
        LinkGate(dashboard, url=_url_of(listener), announce=_announce),
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    await _Server(config).serve([listener])


class _Server(uvicorn.Server):
    """A server that ends at SIGINT and SIGTERM. That of uvicorn raises them again after its end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as in the base class
        """Stop, and at the second signal do not wait for open responses."""
        self.force_exit = self.should_exit
        self.should_exit = True


def _announce(link: str) -> None:
    click.echo(f"Open {link}", err=True)


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _user_name() -> str:
    """Return the name of the user, for the log."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container may run with a user id that has no name
        return "unknown"
