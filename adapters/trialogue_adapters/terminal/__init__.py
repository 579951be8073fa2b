"""`trialogue chat URL`: talk to a session from a terminal, or through a pipe. `command.chat` runs it."""

from trialogue_adapters.terminal.command import chat

__all__ = ["chat"]
