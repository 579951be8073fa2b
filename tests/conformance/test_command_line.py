"""`trialogue serve` as a deployer meets it: services of every shape and runtime, and one line for what is wrong.

What is decided before a listener is opened (a service's shape, a typo) runs once, the rest on both listeners.
"""

from __future__ import annotations

import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
import trio

from support import server as servers
from support.raw_client import kinds, open_client, tokens
from support.server import command, environment, said, serve_words

running = partial(servers.running, typed=True)

SHAPES = """
class Service:
    async def stream_rag_pipeline(self, message, session_id, options=None):
        yield {"event": "metadata", "data": {"session_id": session_id}}
        for word in ("you", "said", message):
            yield {"event": "chunk", "data": word}
        yield {"event": "done", "data": {}}

class Plain:
    async def stream_rag_pipeline(self, message, session_id):
        for word in ("you", "said", message):
            yield {"event": "chunk", "data": word}

class Awaited(Service):
    async def stream_rag_pipeline(self, message, session_id, options=None):
        return super().stream_rag_pipeline(message, session_id, options)

async def function(message, session_id, options=None):
    for word in ("you", "said", message):
        yield word

def factory():
    import asyncio
    asyncio.get_running_loop()
    return Service()

async def async_factory():
    import asyncio
    await asyncio.sleep(0)
    return Service()

class Inside:
    service = Service()

instance, plain, awaited = Service(), Plain(), Awaited()

async def agen(message, session_id):
    import trio
    await trio.sleep(0.001)
    for word in ("you", "said", message):
        yield {"event": "chunk", "data": word}

def gen(message, session_id, options=None):
    for word in ("you", "said", message):
        yield {"event": "chunk", "data": word}

class Sync:
    def stream_rag_pipeline(self, message, session_id, options=None):
        return gen(message, session_id)

nothing = 5
none = None

def bad_factory():
    raise ValueError("no database today")

def factory_of_nothing():
    return object()

async def one_argument(message):
    yield message
"""

WORKING = [
    *(("asyncio", name) for name in ("plain", "awaited", "function", "factory")),
    *(("asyncio", name) for name in ("async_factory", "Inside.service")),
    ("trio", "agen"),
    ("sync", "gen"),
    ("sync", "Sync"),
]


@pytest.mark.parametrize(("runtime", "name"), WORKING)
async def test_a_service_of_this_shape_works(tmp_path: Path, runtime: str, name: str) -> None:
    (tmp_path / "shapes.py").write_text(SHAPES)
    with servers.running(tmp_path, "hypercorn", ("--service-runtime", runtime), f"shapes:{name}") as server:
        async with open_client(server) as client:
            await client.send(message_id="m", content="hello", session_id=client.session_id)
            turn = await client.turn("m")
    assert tokens(turn) == ["you", "said", "hello"]
    assert turn[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize("runtime", ["trio", "sync"])
async def test_on_the_other_runtimes_a_turn_streams_is_cancelled_and_interrupted(
    listener: str, tmp_path: Path, runtime: str
) -> None:
    with running(tmp_path, listener, ("--service-runtime", runtime), f"chat:{runtime}_service") as server:
        async with open_client(server) as client:
            turn = await client.turn(await client.say(tokens=300))
            assert [body["index"] for body in turn if body["type"] == "stream_token"] == list(range(300))
            assert kinds(turn)[:2] == ["stream_start", "stream_sources"]

            for options, seen in (({"retrieval": 0.4}, "stream_start"), ({"pace": 0.02}, "stream_token")):
                message_id = await client.say(tokens=10_000, **options)
                await client.wait_for(seen)
                await client.cancel(message_id)
                with trio.fail_after(0.2):
                    end = (await client.turn(message_id))[-1]
                assert end["finish_reason"] == "cancelled"
                await server.recorded("closed", message_id)

            old = await client.say(tokens=10_000, pace=0.02)
            await client.wait_for("stream_token")
            new = await client.say(tokens=5, pace=0.02)
            frames = await client.turn(new)
            frames += await client.quiet()
            end = next(n for n, body in enumerate(frames) if body["type"] == "stream_end")
            assert (frames[end]["message_id"], frames[end]["finish_reason"]) == (old, "interrupted")
            assert {body["message_id"] for body in frames[end + 1 :]} == {new}
            await server.recorded("closed", old)

            failed = await client.turn(await client.say(at={"1": ["raise", "ValueError"]}))
            assert failed[-1]["error_code"] == "RAG-001"
            junk = await client.turn(await client.say(at={"1": ["yield", 5]}))
            assert junk[-1]["error_code"] == "RAG-001"
            assert (await client.turn(await client.say(at={"1": ["end", None]})))[-1]["finish_reason"] == "stop"
        server.signal()
        assert await server.exit_code() == 0


async def test_a_blocking_sync_service_harms_nobody_and_is_fenced_at_once(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener, ("--service-runtime", "sync"), "chat:sync_service") as server:
        async with open_client(server) as client, open_client(server) as other:
            old = await client.say(tokens=10, at={"1": ["block", 1.5]})
            await client.wait_for("stream_token")
            assert (await other.turn(await other.say()))[-1]["finish_reason"] == "stop"
            with trio.fail_after(1.0):
                new = await client.say()
                assert (await client.turn(old))[-1]["finish_reason"] == "interrupted"
                assert (await client.turn(new))[-1]["finish_reason"] == "stop"
            await server.recorded("closed", old)
            assert await client.quiet() == []


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=8, check=False)


WRONG: dict[str, tuple[str, str]] = {
    "shapes": ("MODULE:ATTR", "shapes"),
    ":service": ("MODULE:ATTR", ":service"),
    "no_such_module:service": ("no_such_module", "no module"),
    "shapes:missing": ("missing", "shapes"),
    "shapes:Inside.missing": ("missing", "shapes"),
    "needs_more:service": ("not_installed_anywhere", "needs_more"),
    "broken:service": ("broken", "SyntaxError"),
    "raising:service": ("raising", "boom"),
    "shapes:nothing": ("stream_rag_pipeline", "int"),
    "shapes:none": ("stream_rag_pipeline", "none"),
    "shapes:factory_of_nothing": ("stream_rag_pipeline", "object"),
    "shapes:one_argument": ("stream_rag_pipeline", "session_id"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_service_is_one_line_that_names_what_is_wrong_and_exit_code_2(tmp_path: Path, name: str) -> None:
    write_modules(tmp_path)
    done = said(tmp_path, *serve_words("hypercorn", name))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in WRONG[name])


def test_a_service_whose_factory_raises_is_named_in_the_last_line_and_exit_code_2(
    listener: str, tmp_path: Path
) -> None:
    write_modules(tmp_path)
    done = typed(tmp_path, *command(listener, "shapes:bad_factory"))
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "shapes:bad_factory" in last
    assert "no database today" in last


def write_modules(folder: Path) -> None:
    (folder / "shapes.py").write_text(SHAPES)
    (folder / "needs_more.py").write_text("import not_installed_anywhere")
    (folder / "broken.py").write_text("def (")
    (folder / "raising.py").write_text("raise RuntimeError('boom')")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--port", "x"), "port"),
        (("--policy", "sometimes"), "policy"),
        (("--queue-size", "-1"), "queue-size"),
        (("--listener", "apache"), "listener"),
        (("--no-such-flag", "1"), "no-such-flag"),
        (("--host", "0.0.0.0"), "--insecure"),
    ],
)
def test_a_wrong_flag_is_named_and_exit_code_2(tmp_path: Path, flags: tuple[str, ...], named: str) -> None:
    write_modules(tmp_path)
    done = said(tmp_path, *serve_words("hypercorn", "shapes:instance"), *flags)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_port_that_is_taken_is_named_and_exit_code_2(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener) as server:
        done = typed(tmp_path, *command(listener, "chat:service"), "--port", str(server.port))
    assert done.returncode == 2
    assert str(server.port) in done.stderr.splitlines()[-1]


ENDS_ITS_LOOP = """
import asyncio

async def service(message, session_id):
    yield "one"
    asyncio.get_running_loop().stop()
    await asyncio.sleep(5)
"""


async def test_a_crash_of_a_server_that_had_started_is_exit_code_1(listener: str, tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(ENDS_ITS_LOOP)
    with running(tmp_path, listener, (), "ends:service") as server:
        async with open_client(server) as client:
            await client.say()
            await client.end()
        assert await server.exit_code() == 1
        assert "LoopEnded: the service's event loop has ended" in server.log().splitlines()[-1]
        assert '"event": "crashed"' in server.log()


async def test_the_environment_configures_and_flags_win(
    listener: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("support.server.environment", lambda: {**os.environ, "TRIALOGUE_POLICY": "reject", "PORT": "1"})
    with running(tmp_path, listener) as server:
        async with open_client(server) as client:
            await client.say(tokens=100, pace=0.01)
            await client.say()
            assert (await client.wait_for("stream_error"))["error_code"] == "WS-003"
    with running(tmp_path, listener, ("--policy", "interrupt")) as server:
        async with open_client(server) as client:
            old = await client.say(tokens=100, pace=0.01)
            await client.say()
            assert (await client.turn(old))[-1]["finish_reason"] == "interrupted"


async def test_a_toml_file_configures(listener: str, tmp_path: Path) -> None:
    (tmp_path / "trialogue.toml").write_text('policy = "reject"\n')
    with running(tmp_path, listener) as server:
        async with open_client(server) as client:
            await client.say(tokens=100, pace=0.01)
            await client.say()
            assert (await client.wait_for("stream_error"))["error_code"] == "WS-003"


async def test_it_says_one_line_on_stdout_and_goes_quietly(listener: str, tmp_path: Path) -> None:
    with running(tmp_path, listener) as server:
        assert server.address == f"http://127.0.0.1:{server.port}"
        async with open_client(server) as client:
            await client.turn(await client.say())
        server.signal(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert server.process.stdout
        assert server.process.stdout.read() == ""
        assert '"exception"' not in server.log()
