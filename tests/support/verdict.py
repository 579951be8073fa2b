"""What a client of many nodes has seen, held against what their store holds."""

from __future__ import annotations

from collections.abc import Collection

from support.cluster import Cluster
from support.wanderer import Wanderer
from trialogue.core.events import UserMessage


def complaints(cluster: Cluster, wanderer: Wanderer, told: Collection[str] = ()) -> list[str]:
    """What is wrong with that client's session: nothing, if all is as promised.

    Everything that it has seen is in the stream as it was told; nothing between its first entry and its last has been
    kept from it; each message was accepted once and has one ending. For a client that has met no gap.

    Args:
        told: turns whose end it was told by a reply: what their log still says of them is kept from it.
    """
    wrong: list[str] = []
    stream = cluster.stream(wanderer.session_id)
    frames = stream.frames()
    seen = {body["offset"]: body for body in wanderer.entries}
    if len(seen) < len(wanderer.entries):
        wrong.append("entries came twice")
    wrong += [f"seen, and not in the log: {body}" for offset, body in seen.items() if frames.get(offset) != body]
    first, last = min(seen, default=0), max(seen, default=-1)
    between = {offset for offset, body in frames.items() if first <= offset <= last and body["message_id"] not in told}
    wrong += [f"in the log, and never seen: {frames[offset]}" for offset in between - set(seen)]
    if stream.ids != sorted(set(stream.ids)):
        wrong.append("the ids of the stream do not grow")
    accepted = [event.message_id for event in stream if isinstance(event, UserMessage)]
    if len(accepted) > len(set(accepted)):
        wrong.append(f"accepted twice: {accepted}")
    for message_id in accepted:
        ends = stream.ends.get(message_id, [])
        if len(ends) != 1 and not (not ends and message_id in wanderer.asked):
            wrong.append(f"{message_id} ends {ends}")
    return [f"{wanderer}: {what}" for what in wrong]
