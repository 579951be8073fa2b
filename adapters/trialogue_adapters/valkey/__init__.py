"""The engine's store port over Valkey or Redis: sessions' logs as streams, their owners, letters between nodes.

Writes go through a pipe of our own (`pipe.py`: coredis takes 6 to 30 µs of our time per pipelined command, and there
is one per batch of tokens; the pipe takes 1 to 2); whatever is asked once per session or waits goes through coredis.
"""

from trialogue_adapters.valkey.address import Address, BadAddress
from trialogue_adapters.valkey.store import ValkeyStore
from trialogue_adapters.valkey.tally import Tally

__all__ = ["Address", "BadAddress", "Tally", "ValkeyStore"]
