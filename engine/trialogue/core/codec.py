"""Events, and what nodes write to each other, as bytes: what a shared store holds, and reads back to the same values.

Compact JSON: `[version, value, …]`, each value an array of a tag and the fields of its class in order. The bytes come
from a store that others may write to, so nothing is believed: what this version cannot read raises `Unreadable`, and
never anything else. Tokens, which are nearly all there is, go through no validator but a few comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, from_json, to_json

from trialogue.core import letters
from trialogue.core.dialects import dump
from trialogue.core.events import (
    Announced,
    CancelResult,
    Confirmed,
    Custom,
    Duplicate,
    Ended,
    Event,
    Failed,
    Fenced,
    Goaway,
    Pong,
    Presence,
    Ready,
    Receipt,
    Remembered,
    Replay,
    Snapshot,
    Sources,
    Started,
    Status,
    Tokens,
    Typing,
    UserMessage,
)
from trialogue.core.letters import Letter

VERSION = 1
"""Grows with every change that an older node would misread: nodes of different versions cannot share a store."""

Kinds = Mapping[str, type[Any]]

EVENTS: Kinds = {
    "t": Tokens,
    "u": UserMessage,
    "s": Started,
    "o": Sources,
    "p": Status,
    "e": Ended,
    "f": Failed,
    "r": Receipt,
    "F": Fenced,
    "S": Snapshot,
    "A": Announced,
}
REPLIES: Kinds = {
    **EVENTS,
    "C": Confirmed,
    "X": CancelResult,
    "D": Duplicate,
    "P": Presence,
    "T": Typing,
    "O": Pong,
    "G": Goaway,
    "J": Custom,
    "R": Ready,
    "L": Replay,
}
LETTERS: Kinds = {
    "+": letters.Attach,
    "-": letters.Detach,
    "m": letters.AskSubmit,
    "x": letters.AskCancel,
    "a": letters.Shown,
    "y": letters.Types,
    "l": letters.Postpone,
    "c": letters.Count,
    "d": letters.Delete,
    "j": letters.Hand,
    "t": letters.Tell,
    "b": letters.Dismiss,
    "u": letters.Counted,
    "n": letters.NotMine,
}

_ENDINGS: Kinds = {"e": Ended, "f": Failed}
_TAGS = {cls: tag for kinds in (REPLIES, LETTERS) for tag, cls in kinds.items()}
_FIELDS = {cls: tuple(field.name for field in fields(cls)) for cls in _TAGS}
_ADAPTERS = {cls: TypeAdapter(cls) for cls in _TAGS}


class Unreadable(Exception):
    """Bytes that this version did not write. The text says what is wrong, and shows nothing of the content."""


def encode_events(events: Sequence[Event]) -> bytes:
    """One entry's payload. Lone surrogates become `?` and foreign values their text, as on the wire."""
    if len(events) == 1 and type(tokens := events[0]) is Tokens:  # nearly always
        try:
            return to_json([VERSION, ["t", tokens.message_id, tokens.index, tokens.texts]])
        except ValueError:
            pass
    return dump([VERSION, *map(_packed, events)])


def decode_events(payload: bytes) -> list[Event]:
    """What `encode_events` was given. Raises Unreadable."""
    return [_unpacked(value, EVENTS) for value in _values(payload)]


def encode_letter(letter: Letter) -> bytes:
    return dump([VERSION, _packed(letter)])


def decode_letter(payload: bytes) -> Letter:
    """What `encode_letter` was given. Raises Unreadable."""
    values = _values(payload)
    if len(values) != 1:
        raise Unreadable("not one letter")
    letter: Letter = _unpacked(values[0], LETTERS)
    return letter


def _packed(value: Any) -> list[Any]:
    """A tag and the fields."""
    if type(value) is Tokens:
        return ["t", value.message_id, value.index, value.texts]
    return [_TAGS[type(value)], *(_plain(getattr(value, name)) for name in _FIELDS[type(value)])]


def _plain(field: Any) -> Any:
    """Values inside a value are packed too; strings, numbers, faults and turns pydantic knows how to write."""
    if type(field) in _TAGS:
        return _packed(field)
    if isinstance(field, Remembered):
        return [field.digest.hex(), _packed(field.ending)]
    if isinstance(field, tuple | list):
        return [_plain(item) for item in field]
    return field


def _values(payload: bytes) -> list[Any]:
    """The values behind the version."""
    try:
        whole = from_json(payload)
    except ValueError:
        raise Unreadable("not JSON") from None
    if not isinstance(whole, list) or not whole:
        raise Unreadable("not an array that begins with a version")
    if type(whole[0]) is not int or whole[0] != VERSION:
        raise Unreadable(f"written by another version than {VERSION}")
    return whole[1:]


def _unpacked(value: Any, kinds: Kinds) -> Any:
    if not isinstance(value, list) or not value or not isinstance(value[0], str):
        raise Unreadable("not an array that begins with a tag")
    cls = kinds.get(value[0])
    if cls is None:
        raise Unreadable("a tag that is not known here")
    if cls is Tokens:
        return _tokens(value)
    arguments = value[1:]
    if cls in _INNER:
        index, unpack = _INNER[cls]
        if index < len(arguments):
            arguments[index] = unpack(arguments[index])
    try:
        return _ADAPTERS[cls].validate_python(ArgsKwargs(tuple(arguments)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise Unreadable(f"{cls.__name__}, {'.'.join(map(str, first['loc']))}: {first['type']}") from None


def _tokens(value: list[Any]) -> Tokens:
    """Hot: once per batch of tokens."""
    if len(value) == 4:
        _, message_id, index, texts = value
        numbered = type(message_id) is str and type(index) is int and index >= 0
        if numbered and type(texts) is list and {*map(type, texts)} == {str} and all(texts):
            return Tokens(message_id, index, texts)
    raise Unreadable("tokens that are none")


def _remembered(value: Any) -> Remembered:
    match value:
        case [str(digest), ending]:
            try:
                return Remembered(bytes.fromhex(digest), _unpacked(ending, _ENDINGS))
            except ValueError:
                raise Unreadable("a digest that is none") from None
    raise Unreadable("a remembered turn that is none")


def _each(unpack: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def unpack_all(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list):
            raise Unreadable("not an array of values")
        return tuple(unpack(value) for value in values)

    return unpack_all


_INNER: Mapping[type[Any], tuple[int, Callable[[Any], Any]]] = {
    Replay: (0, _each(lambda value: _unpacked(value, EVENTS))),
    Snapshot: (0, _each(_remembered)),
    letters.Tell: (5, lambda value: _unpacked(value, REPLIES)),
    letters.Dismiss: (7, lambda value: None if value is None else _unpacked(value, {"G": Goaway})),
}
"""Which field of a class holds packed values, and how they are unpacked."""
