"""Trialogue: an event-driven, actor-style session engine on Trio for streaming chat.

The public face. Start with `Hub` (sessions), `Connection` (one client over a `Transport`) and `Service` (the port to
somebody's pipeline). Imports run one way: connection, hub, session, generation, log, then service and metrics, core.
"""

from trialogue._version import __version__
from trialogue.connection import Connection, Credential, Disconnected, Handshake, Transport
from trialogue.core.choice import dialect_for
from trialogue.core.dialects import SUBPROTOCOL
from trialogue.core.errors import CloseCode, Fault
from trialogue.core.limits import Limits
from trialogue.core.machine import Ending, Policy, Turn
from trialogue.core.sse import SseDialect
from trialogue.everywhere import Everywhere
from trialogue.hub import Hub
from trialogue.log import Position
from trialogue.metrics import Meter, NullMeter
from trialogue.service import Done, Emit, Failure, Metadata, Progress, Service, ServiceEvent, TurnReceipt
from trialogue.store import StoreGone
from trialogue.tracing import NullTracer, Trace, Tracer, TurnNames, current_turn

__all__ = [
    "SUBPROTOCOL",
    "CloseCode",
    "Connection",
    "Credential",
    "Disconnected",
    "Done",
    "Emit",
    "Ending",
    "Everywhere",
    "Failure",
    "Fault",
    "Handshake",
    "Hub",
    "Limits",
    "Metadata",
    "Meter",
    "NullMeter",
    "NullTracer",
    "Policy",
    "Position",
    "Progress",
    "Service",
    "ServiceEvent",
    "SseDialect",
    "StoreGone",
    "Trace",
    "Tracer",
    "Transport",
    "Turn",
    "TurnNames",
    "TurnReceipt",
    "__version__",
    "current_turn",
    "dialect_for",
]
