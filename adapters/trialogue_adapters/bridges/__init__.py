"""Bridges: each turns somebody's stream into the engine's service port."""

from trialogue_adapters.bridges.opening import OpenService, Runtime, open_service
from trialogue_adapters.bridges.pipeline import NotAService

__all__ = ["NotAService", "OpenService", "Runtime", "open_service"]
