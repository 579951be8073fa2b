"""Bridges: each turns somebody's stream into the engine's service port."""

from trialogue_adapters.bridges.asyncio_thread import AsyncioThread
from trialogue_adapters.bridges.opening import Runtime, open_service

__all__ = ["AsyncioThread", "Runtime", "open_service"]
