"""An application's calls on a hub, for sessions wherever their clients are: on this node, on others, on none.

Without a store they are the hub's own calls of these names, and no checkpoint. With one, the session's owner is asked,
whichever node that is: `Nodes.inquire` tells how, and what happens to an owner that is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trialogue.core.letters import Count, Delete, Hand, Inquiry
from trialogue.hub import Hub
from trialogue.nodes import Nodes


class Everywhere:
    """All of these raise StoreGone when the store, or a session's owner, has not answered in time: then nothing is
    known, and what was wanted may have been done. Where there is a store, RuntimeError before the hub runs."""

    __slots__ = ("_hub",)

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __repr__(self) -> str:
        return f"<Everywhere {self._hub!r}>"

    async def is_connected(self, session_id: str, *, principal: str = "") -> bool:
        """Has that session a connection now, on any node? One that was lost with its node counts for five seconds."""
        if self._hub.store is None:
            return self._hub.is_connected(session_id, principal=principal)
        return bool(await self._inquire(Count((principal, session_id), "", 0)))

    async def send_json(self, session_id: str, body: Mapping[str, Any], *, principal: str = "") -> int:
        """Hand a JSON object to all connections of a session, on all nodes. Returns to how many.

        What is handed in from one node, one after the other, is told in that order. To a session without a connection
        it is told to nobody: it is not in the log.
        """
        if self._hub.store is None:
            return self._hub.send_json(session_id, body, principal=principal)
        return await self._inquire(Hand((principal, session_id), "", 0, body)) or 0

    async def broadcast(self, body: Mapping[str, Any]) -> None:
        """Hand a JSON object to all connections of all sessions, on all nodes. Returns when it is on its way: a node
        tells its own when it reads it, mostly within milliseconds. All nodes tell what is broadcast in one order."""
        if self._hub.store is None:
            self._hub.broadcast(body)
        else:
            await self._nodes.announce(body)

    async def delete(self, principal: str, session_id: str) -> bool:
        """Forget a session: its turns are stopped, its clients on all nodes closed with 1000, its log goes, here and in
        the store. False: there is none. It returns when that has begun; whoever comes before it has ended is closed
        with 1012, to come again a second later, to a new session."""
        if self._hub.store is None:
            return self._hub.delete(principal, session_id)
        return await self._inquire(Delete((principal, session_id), "", 0)) is not None

    async def _inquire(self, inquiry: Inquiry) -> int | None:
        return await self._nodes.inquire(inquiry)

    @property
    def _nodes(self) -> Nodes:
        if self._hub.nodes is None:
            raise RuntimeError("the hub is not running: enter `open()` (or the app's lifespan) before")
        return self._hub.nodes
