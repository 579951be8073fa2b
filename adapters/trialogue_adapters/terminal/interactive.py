"""The terminal that people type into: prompt_toolkit's line editor beneath, the conversation above.

prompt_toolkit knows asyncio only, so here the client runs there. What is typed never mixes with what is answered: the
answer's last block is drawn above the input line, and what is settled scrolls away over both. Nothing waits for the
server here: keys act at once, and frames are drawn from what is known, twenty a second while something goes on.
"""

from __future__ import annotations

import os
import signal
from typing import Any, cast

import anyio
import anyio.abc
from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, FormattedTextControl, HSplit, Layout, VerticalAlign, VSplit, Window
from rich.console import Console

from trialogue_adapters.client import (
    Asked,
    Chat,
    ChatError,
    Connected,
    Disconnected,
    LinkError,
    Presence,
    Turn,
    TurnRestarted,
)
from trialogue_adapters.terminal.markdown import ColorSystem, Painter
from trialogue_adapters.terminal.view import FAILURE, View
from trialogue_adapters.terminal.words import Words

FRAME_SECONDS = 0.05
AGAIN_SECONDS = 2.0
"""A second Ctrl-C within this leaves."""
INPUT_LINES = 2


class Terminal:
    """One run of the program on one chat."""

    def __init__(self, chat: Chat, words: Words) -> None:
        self._chat = chat
        self._words = words
        self._painter = Painter(color_system())
        self._view = View(words, self._painter)
        self._live = ANSI("")
        self._woken = anyio.Event()
        self._rendered = anyio.Event()
        self._stopped_at = -AGAIN_SECONDS
        self._group: anyio.abc.TaskGroup  # there while `run` runs, and before any key is read
        self._buffer = Buffer(history=InMemoryHistory(), accept_handler=self._accept, multiline=False)
        self._app: Application[LinkError | None] = Application(
            self._layout(),
            key_bindings=self._keys(),
            erase_when_done=True,
            min_redraw_interval=0.02,
            after_render=lambda _: self._rendered.set(),
        )

    async def run(self) -> LinkError | None:
        """Until the user leaves; or until the server has ended it, which is then returned."""
        self._painter.width = self._app.output.get_size().columns
        self._view.say(self._words.hello.format(address=self._chat.address, session=self._chat.session_id))
        self._view.say(self._words.hint)
        self._print(self._view.frame(1).above)
        async with anyio.create_task_group() as self._group:
            for task in (self._draw, self._listen, self._leave_on_signals):
                self._group.start_soon(task)
            error = await self._app.run_async(handle_sigint=False)
            self._group.cancel_scope.cancel()
        self._print(self._view.rest())
        return error

    def _exit(self, error: LinkError | None = None) -> None:
        if self._app.is_running and not self._app.is_done:
            self._app.exit(result=error)

    # What is typed.

    def _accept(self, buffer: Buffer) -> bool:
        if buffer.text.strip():
            self._stopped_at = -AGAIN_SECONDS  # that was about another answer
            self._group.start_soon(self._ask, buffer.text)
        return False

    async def _ask(self, question: str) -> None:
        try:
            turn = await self._chat.send(question)
        except LinkError:
            return  # `_listen` is told the same
        except ChatError as error:
            self._view.say(str(error), FAILURE)
            self._wake()
            return
        self._show(turn)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("c-c")
        def _stop(_: KeyPressEvent) -> None:
            now = anyio.current_time()
            if now - self._stopped_at < AGAIN_SECONDS:
                self._exit()
                return
            self._stopped_at = now
            self._buffer.reset()
            turn = self._view.current
            if turn is None:
                self._view.say(self._words.again)
            else:
                self._view.stopping = True
                self._group.start_soon(self._cancel, turn)
            self._wake()

        @keys.add("c-d", filter=Condition(lambda: not self._buffer.text))
        def _leave(_: KeyPressEvent) -> None:
            self._exit()

        return keys

    async def _cancel(self, turn: Turn) -> None:
        try:
            await turn.cancel()
        except LinkError:
            return

    async def _leave_on_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for _ in signals:
                break
        self._exit()

    # What happens.

    async def _listen(self) -> None:
        try:
            for turn in self._chat.turns:
                self._show(turn)
            async for event in self._chat.events():
                match event:
                    case Asked(turn):
                        self._show(turn)
                    case Disconnected(reason=reason, retry_in=seconds):
                        self._view.status = self._words.away.format(reason=reason, seconds=f"{seconds:.1f}")
                    case Connected(resumed=resumed):
                        self._view.status = ""
                        self._view.say(self._words.gap if resumed == "gap" else self._words.back)
                    case Presence(connections=count) if count > 1:
                        self._view.say(self._words.present.format(count=count))
                    case _:
                        continue
                self._wake()
        except LinkError as error:
            self._exit(error)

    def _show(self, turn: Turn) -> None:
        self._view.add(turn)
        self._group.start_soon(self._see, turn)
        self._wake()

    async def _see(self, turn: Turn) -> None:
        """Iterate it, so that what is shown counts as seen; what is shown is read from its state."""
        while True:
            try:
                async for _ in turn:
                    pass
            except TurnRestarted:
                continue
            except ChatError:
                pass
            return

    # What is drawn.

    def _layout(self) -> Layout:
        prompt = Window(FormattedTextControl("> "), dont_extend_width=True, dont_extend_height=True)
        line = Window(BufferControl(self._buffer), wrap_lines=True, dont_extend_height=True)
        live = Window(FormattedTextControl(lambda: self._live), dont_extend_height=True)
        return Layout(HSplit([live, VSplit([prompt, line])], align=VerticalAlign.TOP), focused_element=line)

    def _wake(self) -> None:
        self._woken.set()

    def _print(self, painted: str) -> None:
        self._app.output.write_raw(painted)
        self._app.output.flush()

    async def _draw(self) -> None:
        await self._rendered.wait()  # else what is printed would mix with the editor's first drawing
        while True:
            self._woken = anyio.Event()
            before = anyio.current_time()
            size = self._app.output.get_size()
            self._painter.width = size.columns
            frame = self._view.frame(size.rows - INPUT_LINES)
            self._live = ANSI(frame.live.removesuffix("\n"))
            if frame.above:
                # Not `in_terminal`: it gives the terminal back meanwhile, so that keys echo, and Ctrl-C kills.
                self._app.renderer.erase()
                self._print(frame.above)
            self._app.invalidate()
            spent = anyio.current_time() - before
            await anyio.sleep(max(FRAME_SECONDS, 3 * spent))  # drawing takes at most a quarter of the time
            if not self._view.busy:
                await self._woken.wait()


def color_system() -> ColorSystem:
    """What the terminal can show, as rich finds out; none if the user wants none (https://no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return None
    return cast(Any, Console().color_system) if Console().color_system != "windows" else None
