"""A real llama.cpp server in a process of its own, with the weights of the local model, behind a key.

Its settings are the program's own, but for the size of a batch: it looks for cancelled requests between batches, and
its default of 512 tokens takes this kind of processor five seconds. (A graphics card takes milliseconds.)
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx2
import trio

from trialogue_adapters.rag.local_model import find_weights

MODEL = "smol"
KEY = "sesame-opens"
BATCH = 8


class Llama:
    """A running server. It has one slot: what is not free cannot answer."""

    def __init__(self, address: str) -> None:
        self.url = f"{address}/v1"
        self._client = httpx2.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {KEY}"}, timeout=10)

    async def busy(self) -> bool:
        slots = (await self._client.get("/slots")).json()
        return any(slot["is_processing"] for slot in slots)

    async def until(self, *, busy: bool) -> float:
        """Wait for the slot to be taken, or to be free; the time of that."""
        with trio.fail_after(20):
            while await self.busy() is not busy:
                await trio.sleep(0.001)
        return trio.current_time()

    async def aclose(self) -> None:
        await self._client.aclose()


@contextmanager
def running_llama(batch: int = BATCH) -> Generator[str]:
    """Its address, for the length of the block."""
    with subprocess.Popen(
        [sys.executable, __file__, str(batch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), "llama.cpp did not start"
            yield address
        finally:
            process.kill()  # its own end waits for answers


def main() -> None:
    llama: Any = importlib.import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = str(find_weights())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [KEY]
    params.ui = False
    params.endpoint_slots = True
    params.n_parallel = 1
    params.n_ctx = 2048
    params.n_batch = params.n_ubatch = int(sys.argv[1])
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 0
    params.verbosity = 0
    server = llama.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
