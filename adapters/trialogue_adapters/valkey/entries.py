"""Entries of streams, as a store returns them, taken apart into what was put in: events with positions, letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trialogue.core.codec import Unreadable, decode_events, decode_letter
from trialogue.core.events import Fenced, width
from trialogue.core.letters import Letter
from trialogue.store import Stored

Entry = tuple[bytes, Sequence[bytes]]
"""An id, and the fields: name, value, name, value."""


def position(entry_id: bytes) -> tuple[int, int]:
    """(epoch, offset). Raises Unreadable."""
    epoch, _, offset = entry_id.partition(b"-")
    if not (epoch.isdigit() and offset.isdigit()):
        raise Unreadable("an id that is no position")
    return int(epoch), int(offset)


def unpacked(entry: Entry) -> list[Stored]:
    """The events of one entry. Raises Unreadable."""
    entry_id, fields = entry
    epoch, offset = position(entry_id)
    if len(fields) != 4 or fields[2] != b"e":
        raise Unreadable("fields that are none of ours")
    found: list[Stored] = []
    for event in decode_events(fields[3]):
        if type(event) is Fenced:
            event = replace(event, epoch=epoch)  # a fence is written before its epoch is known
        found.append(Stored(epoch, offset, event))
        offset += width(event)
    return found


def letter_of(entry: Entry) -> tuple[bytes, int, Letter] | None:
    """Who sent it, its number among that sender's, the letter. None: a beat, or a wake-up. Raises Unreadable."""
    fields = entry[1]
    if fields[0] == b"w":
        return None
    if len(fields) != 6 or fields[0] != b"s" or not fields[3].isdigit():
        raise Unreadable("fields that are none of ours")
    return fields[1], int(fields[3]), decode_letter(fields[5])
