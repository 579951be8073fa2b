"""The queue between hypercorn's reader and one WebSocket's application: bounded, for one task at either end.

Stock hypercorn has a memory channel there, 2.2 KB of every idle connection; and an application that has stopped
receiving keeps it from noticing that the peer has gone, because the news of that has to wait for room, too.
"""

from __future__ import annotations

from typing import Any

import trio

CAPACITY = 10
"""Messages that may wait: hypercorn's default."""


class Mailbox:
    """Messages for one application, in order."""

    __slots__ = ("_getter", "_messages", "_putter")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._getter: trio.lowlevel.Task | None = None
        self._putter: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        return f"<Mailbox, {len(self._messages)} messages>"

    async def put(self, message: Any) -> None:
        """Add a message, and wait while there are too many; the last one, a disconnect, waits for nobody.

        Cancelled: the message is there all the same.
        """
        self._messages.append(message)
        if self._getter:
            trio.lowlevel.reschedule(self._getter)
            self._getter = None
        if len(self._messages) > CAPACITY and message["type"] != "websocket.disconnect":
            self._putter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._forget_putter)

    async def get(self) -> Any:
        """Take the next message. Always a checkpoint. Cancelled: no message is lost."""
        if self._messages:
            await trio.lowlevel.checkpoint()
        else:
            self._getter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._forget_getter)
        message = self._messages.pop(0)
        if self._putter and len(self._messages) <= CAPACITY:
            trio.lowlevel.reschedule(self._putter)
            self._putter = None
        return message

    def _forget_getter(self, _: Any) -> trio.lowlevel.Abort:
        self._getter = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _forget_putter(self, _: Any) -> trio.lowlevel.Abort:
        self._putter = None
        return trio.lowlevel.Abort.SUCCEEDED
