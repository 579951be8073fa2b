"""The client library alone in a browser page: a scripted WebSocket, a clock that the test moves, no server."""

from __future__ import annotations

from typing import Any

HARNESS = """async () => {
  const { Trialogue } = await import("/static/trialogue.js");
  window.sockets = []; window.heard = []; window.states = [];
  window.WebSocket = class {
    constructor(url, protocols) {
      Object.assign(this, { url, protocol: protocols[0], sent: [], closed: null });
      sockets.push(this);
    }
    send(text) { this.sent.push(JSON.parse(text)); }
    close(code) { this.closed = code; }
  };
  window.turns = [];
  window.chat = new Trialogue("wss://chat.test/chat-ws?session_id=s1");
  chat.on("*", (frame) => heard.push(frame));
  chat.on("state", (change) => states.push(change));
  chat.open();
}"""


class Client:
    def __init__(self, page: Any) -> None:
        self.page = page
        self.before = 1  # sockets, when the last one ended
        page.evaluate(HARNESS)

    def run(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def wait(self, ms: int) -> None:
        self.page.clock.run_for(ms)

    def hears(self, **frame: Any) -> None:
        self.run("(frame) => sockets.at(-1).onmessage({ data: JSON.stringify(frame) })", frame)

    def ready(self, resumed: str = "new", position: str = "7:0", **more: Any) -> None:
        frame = {"running": None, "queued": [], "connections": 1, **more}
        self.hears(type="session_ready", session_id="s1", position=position, resumed=resumed, **frame)

    def drop(self, code: int = 1006) -> None:
        before = "const before = sockets.length; sockets.at(-1).onclose({ code, reason: '' }); return before;"
        self.before = self.run(f"(code) => {{ {before} }}", code)

    def send(self, content: str) -> str:
        return str(self.run("(content) => chat.send(content)", content))

    @property
    def sockets(self) -> int:
        return int(self.run("sockets.length"))

    @property
    def url(self) -> str:
        return str(self.run("sockets.at(-1).url"))

    @property
    def sent(self) -> list[dict[str, Any]]:
        return list(self.run("sockets.at(-1).sent"))

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.run("states.at(-1)"))

    def comes_back(self) -> None:
        """After a `drop`. The page's time goes on by itself too: on a slow machine it may have come already."""
        self.wait(self.state["retryMs"] + 1)
        assert self.sockets == self.before + 1
