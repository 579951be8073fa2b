"""A client of Trialogue sessions for Trio and asyncio: ask, iterate the answer, interrupt, cancel, come back.

    async with connect("http://127.0.0.1:8000") as chat:
        turn = await chat.send("What is a nursery?")
        async for token in turn:
            print(token, end="")

`chat` and `turn` are what people use. Beneath them `conversation` and `fold` decide without IO, `websocket` carries.
"""

from trialogue_adapters.client.chat import Chat, connect
from trialogue_adapters.client.conversation import OnBusy
from trialogue_adapters.client.credential import Token, TokenSource
from trialogue_adapters.client.errors import (
    ChatError,
    ClosedByServer,
    Left,
    LinkError,
    Refused,
    TooMuch,
    TurnError,
    TurnFailed,
    TurnIncomplete,
    TurnRejected,
    TurnRestarted,
    Unreachable,
)
from trialogue_adapters.client.events import Asked, Connected, Disconnected, Event, Missed, Notice, Presence, Typing
from trialogue_adapters.client.feed import Feed
from trialogue_adapters.client.fold import Ending, Outcome, Phase, Receipt, Source
from trialogue_adapters.client.turn import Cancelled, Turn

__all__ = [
    "Asked",
    "Cancelled",
    "Chat",
    "ChatError",
    "ClosedByServer",
    "Connected",
    "Disconnected",
    "Ending",
    "Event",
    "Feed",
    "Left",
    "LinkError",
    "Missed",
    "Notice",
    "OnBusy",
    "Outcome",
    "Phase",
    "Presence",
    "Receipt",
    "Refused",
    "Source",
    "Token",
    "TokenSource",
    "TooMuch",
    "Turn",
    "TurnError",
    "TurnFailed",
    "TurnIncomplete",
    "TurnRejected",
    "TurnRestarted",
    "Typing",
    "Unreachable",
    "connect",
]
