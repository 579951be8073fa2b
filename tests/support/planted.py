"""The misbehaving services, in a process whose sessions crash on request and tell what the process holds.

Tests copy this file beside `services.py` (which is `chat.py` there) and name it to `trialogue serve --service`. Being
imported is how it gets into the server's process; it wraps one method there, and product code knows nothing of it.

A `cancel` of the message id `!crash` is a bug in handling it: the session's actor raises. One of `!census` is answered
with what the process has open. Both are otherwise valid ids that no turn has.
"""

from pathlib import Path

import trio
from chat import service, sync_service, trio_service  # noqa: F401 - named by tests

from trialogue.core.events import Custom
from trialogue.core.machine import Cancel
from trialogue.session import Session

_handle = Session._handle


def handle(self, message):
    match message:
        case Cancel("!crash"):
            raise RuntimeError("planted")
        case Cancel("!census", asker):
            hub = self._commons.changed.__self__
            self.clients[asker].reply(Custom({"type": "census", **census(hub)}))
        case _:
            _handle(self, message)


def census(hub):
    """What is there now; the asker's own connection, session and tasks included."""
    return {
        "connections": hub.connections,
        "sessions": len(hub.sessions),
        "generations": hub.census.open,
        "abandoned": hub.census.abandoned,
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())) - 1,  # without the one that lists them
    }


Session._handle = handle
