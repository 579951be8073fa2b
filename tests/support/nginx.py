"""A real nginx with the configuration of `docs/deploy.md`, on a free port, before servers under test.

It runs in a folder of its own and never touches the system's. Its listening socket is made here and inherited (as
nginx hands it to its own successor), so that the port is the kernel's choice and connections wait until it is ready.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from support.raw_client import Client, Wire, upgraded
from support.server import STOP_SECONDS, Server

NAME = "localhost"
"""Stands for the page's `chat.example`."""

MAIN = """\
daemon off;
worker_processes 1;
worker_shutdown_timeout {patience}s;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
{user}
events {{ }}
http {{
    {temporary}
    include {folder}/trialogue.conf;
}}
"""


class Nginx:
    """A running nginx. `tls` is for its clients: it trusts the certificate."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, port: int, authority: trustme.CA) -> None:
        self.process = process
        self.folder = folder
        self.port = port
        self.tls = ssl.create_default_context()
        authority.configure_trust(self.tls)

    @property
    def host(self) -> str:
        """As a browser's `Host` says it."""
        return f"{NAME}:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "access.log").read_text()

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    @asynccontextmanager
    async def wire(self, *, name: str = NAME, local: str = "127.0.0.1") -> AsyncGenerator[Wire]:
        """TLS to it, from one of the loopback addresses, asking for that name."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=local)
        secure: Any = trio.SSLStream(stream, self.tls, server_hostname=name, https_compatible=True)
        try:
            yield Wire(secure)
        finally:
            await trio.aclose_forcefully(secure)

    @asynccontextmanager
    async def client(
        self,
        session_id: str | None = None,
        *,
        local: str = "127.0.0.1",
        v1: bool = False,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Client]:
        """A WebSocket through it; left politely at the end of the block. Raises Refused."""
        async with self.wire(local=local) as wire:
            given = {"Host": self.host, **(headers or {})}
            client = await upgraded(wire, session_id, v1=v1, query=query, headers=given)
            yield client
            if not client.gone:
                await client.close()


def filled(text: str, values: Mapping[str, str]) -> str:
    """The page's text, with what is another in a test. What is not there to be replaced is an error."""
    for there, here in values.items():
        assert there in text, f"the page's configuration has no {there!r}"
        text = text.replace(there, here)
    return text


@contextmanager
def running_nginx(
    config: str,
    servers: Sequence[Server],
    folder: Path,
    *,
    changes: Mapping[str, str] | None = None,
    patience: int = 60,
) -> Generator[Nginx]:
    """nginx with that configuration of the page before servers, whose ports the page counts from 8000.

    Skips when nginx is not installed. `changes` replace more of the page's text; `patience` is that of workers of
    before a reload, in seconds.
    """
    command = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if command is None:
        pytest.skip("nginx is not installed")
    authority = trustme.CA()
    certificate = authority.issue_cert(NAME)
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for part in certificate.cert_chain_pems:
        part.write_to_path(folder / "cert.pem", append=True)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        port = listening.getsockname()[1]
        (folder / "trialogue.conf").write_text(_config(config, servers, folder, port, changes or {}))
        (folder / "nginx.conf").write_text(_main(folder, patience))
        process = subprocess.Popen(
            [command, "-p", str(folder), "-c", str(folder / "nginx.conf")],
            env={**os.environ, "NGINX": f"{listening.fileno()};"},
            pass_fds=[listening.fileno()],
            stderr=subprocess.DEVNULL,
        )
    try:
        yield Nginx(process, folder, port, authority)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()


def _config(config: str, servers: Sequence[Server], folder: Path, port: int, changes: Mapping[str, str]) -> str:
    return filled(
        config,
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "chat.example;": f"{NAME};",
            "/etc/nginx/chat.example.pem": f"{folder}/cert.pem",
            "/etc/nginx/chat.example.key": f"{folder}/key.pem",
            "/var/log/nginx/trialogue.log": f"{folder}/access.log",
            **{f"127.0.0.1:{8000 + n};": f"127.0.0.1:{server.port};" for n, server in enumerate(servers)},
            **changes,
        },
    )


def _main(folder: Path, patience: int) -> str:
    """What Debian's nginx.conf has around the page's part, without anything of the system's."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return MAIN.format(
        folder=folder,
        patience=patience,
        user="user root;" if os.geteuid() == 0 else "",  # the folder is its owner's only
        temporary=" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds),
    )
