"""One question from standard input, its answer to standard output: for pipes and scripts. Needs no terminal library.

Standard output holds the answer and nothing else; what goes wrong is told on standard error. Exit codes: 0 the answer
is there, 1 it is not (or not whole), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

import anyio

from trialogue_adapters.client import Chat, ChatError, Disconnected, Turn
from trialogue_adapters.terminal.clean import clean
from trialogue_adapters.terminal.words import Words

INTERRUPTED = 130


async def ask(chat: Chat, question: str, words: Words) -> int:
    """Ask, print the answer as it comes, and return the exit code."""
    turn = await chat.send(question)
    code = 1
    async with anyio.create_task_group() as group:
        group.start_soon(_stop_on_signal, turn)
        group.start_soon(_tell_drops, chat, words)
        code = await _print_answer(turn, words)
        group.cancel_scope.cancel()
    return code


async def _print_answer(turn: Turn, words: Words) -> int:
    last = "\n"
    try:
        async for token in turn:
            text = clean(token)
            last = text[-1:] or last
            sys.stdout.write(text)
            sys.stdout.flush()
    except ChatError as error:
        _end_line(last)
        explain(error)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it exits
        return 1
    _end_line(last)
    if turn.ending == "stop":
        return 0
    say_aside(f"trialogue: {words.endings.get(str(turn.ending), turn.ending)}")
    return {"length": 0, "cancelled": INTERRUPTED}.get(str(turn.ending), 1)


def _end_line(last: str) -> None:
    if last != "\n":
        sys.stdout.write("\n")
    sys.stdout.flush()


async def _stop_on_signal(turn: Turn) -> None:
    """Ctrl-C stops the answer, as in the terminal; a second one ends the process."""
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            break
    with suppress(ChatError):  # the turn raises the same
        await turn.cancel()


async def _tell_drops(chat: Chat, words: Words) -> None:
    try:
        async for event in chat.events():
            if isinstance(event, Disconnected):
                say_aside(f"trialogue: {words.away.format(reason=event.reason, seconds=round(event.retry_in, 1))}")
    except ChatError:
        return  # the turn raises the same


def explain(error: ChatError) -> None:
    """The error and what to do about it, on standard error."""
    say_aside(f"trialogue: {error}")
    for solution in error.solutions:
        say_aside(f"  {solution}")


def say_aside(line: str) -> None:
    """A line to standard error, harmless whoever wrote it."""
    sys.stderr.write(f"{clean(line)}\n")
    sys.stderr.flush()
