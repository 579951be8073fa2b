"""The engine inside an application that an asyncio server runs: Trio as a guest of the host's loop."""

from trialogue_adapters.mounting.border import Border, HostTransport
from trialogue_adapters.mounting.guest import EngineEnded, Mount, guest_of_this_loop, on_trio

__all__ = ["Border", "EngineEnded", "HostTransport", "Mount", "guest_of_this_loop", "on_trio"]
