"""Every fenced code block of the docs does what the docs say: run, parsed, or played against a real server.

A directive in an HTML comment directly above a block says what it is; `; ` separates several:

    service: MODULE:ATTR RUNTIME   a ChatService: saved as MODULE.py, served, asked
    server [: FILE [MOUNT]]        prints `listening on …` and answers; a Python one is saved as FILE
    host: FILE                     an application that mounts ours: saved as FILE, for the commands after it
    hypercorn|uvicorn [: MOUNT]    a shell command that runs that server; the test adds a free port
    beside: FILE                   a program that imports that file, and needs no server
    transcript [: QUERY]           `>` lines are sent to a server, `<` lines must come; QUERY: lang=…, subprotocol=…
    output                         what the block before prints
    client                         a shell command that talks to a server
    stream: BODY                   what a POST of BODY to /chat/stream is answered
    onerag                         for a server with `--dialect onerag`: a transcript, or a shell client
    locked: files|server|client    the files of a server that wants keys, that server, and its clients
    needs: PACKAGE or COMMAND      skipped without it
    example: FILE                  that file of `examples/`, whole; `test_example_files.py` runs it
    lines of: FILE                 a part of that file
    tested by: FILE                that test takes it from the page and tries it out
    not run: REASON                nothing to run

Without one: Python and JavaScript are clients that must succeed against a server, shell must succeed, JSON frames must
be the protocol's, TOML must be a configuration. The Korean guide has the same blocks as the English one
(`test_pages.py`), so that those are run once.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import trio
from trio_websocket import open_websocket_url

from support.documented import (
    DEFAULT_HTTP,
    FOREIGN,
    FREE_PORTS,
    NUMBERS,
    ask,
    environment,
    node,
    serving,
)
from support.pages import DOCS, EXAMPLES, GUIDE, PAGES, Block, read_blocks, rows
from trialogue.core import events
from trialogue.core.errors import ERRORS, CloseCode
from trialogue.core.machine import Policy
from trialogue.core.onerag import NAMES, UNREADABLE
from trialogue.core.protocol import (
    Invalid,
    StreamEndEvent,
    StreamErrorEvent,
    StreamSourcesEvent,
    StreamStartEvent,
    StreamTokenEvent,
    parse,
)
from trialogue_adapters import web

ONERAG = DOCS / "onerag.md"
LISTENERS = ("hypercorn", "trio-websocket")

SERVER_EVENTS = {
    model.model_fields["type"].default: model
    for model in (StreamStartEvent, StreamTokenEvent, StreamSourcesEvent, StreamEndEvent, StreamErrorEvent)
}
V1_FRAMES: Mapping[str, type] = {
    "session_ready": events.Ready,
    "user_message": events.UserMessage,
    "stream_status": events.Status,
    "stream_receipt": events.Receipt,
    "cancel_result": events.CancelResult,
    "presence": events.Presence,
    "typing": events.Typing,
    "pong": events.Pong,
    "goaway": events.Goaway,
}
V1_EXTRAS = {"type", "offset", "epoch", "place", "data", "session_id"}


BLOCKS = [block for page in PAGES for block in read_blocks(page)]


def before(block: Block) -> Block:
    return BLOCKS[BLOCKS.index(block) - 1]


def is_output(number: int) -> bool:
    return number < len(BLOCKS) and "output" in BLOCKS[number].directives


# ── Processes ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all the files that the pages tell the reader to save."""
    folder = tmp_path_factory.mktemp("workshop")
    modules = folder / "node_modules"
    modules.mkdir()
    (modules / "trialogue").symlink_to(web.CLIENT)  # as `npm install` of a folder does
    for block in BLOCKS:
        if "service" in block.directives:
            (folder / f"{block.directives['service'].partition(':')[0]}.py").write_text(block.text, encoding="utf-8")
        elif block.language == "python" and "server" in block.directives:
            (folder / block.directives["server"].split()[0]).write_text(block.text, encoding="utf-8")
        elif "host" in block.directives:
            (folder / block.directives["host"]).write_text(block.text, encoding="utf-8")
    return folder


def serve(folder: Path, *flags: str) -> Any:
    return serving([sys.executable, "-m", "trialogue_adapters", "serve", *flags], folder)


@contextmanager
def serve_on_both(folder: Path, *flags: str) -> Iterator[list[str]]:
    """The guide's first example, on each listener."""
    with ExitStack() as stack:
        words = ("--service", "words:ChatService", *flags)
        yield [stack.enter_context(serve(folder, *words, "--listener", listener)) for listener in LISTENERS]


@pytest.fixture(scope="module")
def words_urls(workshop: Path) -> Iterator[list[str]]:
    with serve_on_both(workshop) as urls:
        yield urls


@pytest.fixture(scope="module")
def words_url(words_urls: list[str]) -> str:
    return words_urls[0]


@pytest.fixture(scope="module")
def locked_url(workshop: Path) -> Iterator[str]:
    """The server that wants keys, with the files that its page makes, as its page starts it."""
    blocks = {block.directives["locked"]: block for block in BLOCKS if "locked" in block.directives}
    skip_without(blocks["files"])
    check_shell(blocks["files"], workshop)
    with serving(["bash", "-ec", blocks["server"].text], workshop) as url:
        yield url


@pytest.fixture(scope="module")
def onerag_urls(workshop: Path) -> Iterator[list[str]]:
    """As an unchanged web client of OneRAG wants it."""
    with serve_on_both(workshop, "--dialect", "onerag") as urls:
        yield urls


@pytest.fixture(scope="module")
def onerag_url(onerag_urls: list[str]) -> str:
    return onerag_urls[0]


def run_client(block: Block, url: str, folder: Path) -> str:
    """Run a client program to its end. Returns what it printed."""
    if block.language == "python":
        command, suffix = [sys.executable, "-W", "error"], ".py"
    else:
        command, suffix = [*node(), "--no-warnings"], ".mjs"
    program = folder / f"client_{block.line}{suffix}"
    program.write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [*command, str(program)],
        cwd=folder,
        env=environment(TRIALOGUE_URL=url),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout, "an example prints something"
    return done.stdout


# ── What each kind of block must do ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("block", BLOCKS, ids=str)
async def test_block(block: Block, request: pytest.FixtureRequest, workshop: Path) -> None:
    directives = block.directives
    if is_tried_elsewhere(block):
        return
    skip_without(block)
    if "service" in directives:
        name, runtime = directives["service"].split()
        with serve(workshop, "--service", name, "--service-runtime", runtime) as url:
            await ask(url)
    elif "server" in directives:
        await run_server(block, workshop)
    elif "locked" in directives:
        await trio.to_thread.run_sync(run_locked, block, request.getfixturevalue("locked_url"), workshop)
    elif found := directives.keys() & FREE_PORTS.keys():
        (server,) = found
        command = ["bash", "-ec", f"{block.text.rstrip()} {FREE_PORTS[server]}"]
        with serving(command, workshop, FOREIGN) as url:
            await ask(url, directives[server])
    elif "transcript" in directives:
        await play_on_both(block, request.getfixturevalue("onerag_urls" if "onerag" in directives else "words_urls"))
    elif "onerag" in directives:
        url = request.getfixturevalue("onerag_url")
        await trio.to_thread.run_sync(check_shell, addressed(block, url), workshop)
    elif "host" in directives:
        return  # the commands below it
    elif "beside" in directives:
        assert (workshop / directives["beside"]).exists()
        await trio.to_thread.run_sync(run_client, block, "", workshop)
    elif directives.keys() & {"client", "stream", "output"} or block.language in ("python", "javascript"):
        await trio.to_thread.run_sync(run_with_words, block, request.getfixturevalue("words_url"), workshop)
    elif block.language in CHECKS:
        CHECKS[block.language](block, workshop)
    else:
        pytest.fail(f"{block.page.name}:{block.line}: a {block.language} block is neither run nor marked as not run")


def is_tried_elsewhere(block: Block) -> bool:
    """By another test, which must take it from this page; or nowhere, for a reason."""
    if "not run" in block.directives:
        assert block.directives["not run"], "say why it is not run"
    elif "example" in block.directives:
        file = EXAMPLES / block.directives["example"]
        assert block.text == file.read_text(encoding="utf-8"), f"not what examples/{file.name} holds"
    elif "lines of" in block.directives:
        file = EXAMPLES / block.directives["lines of"]
        assert f"\n{block.text}" in file.read_text(encoding="utf-8"), f"not what examples/{file.name} holds"
    elif "tested by" in block.directives:
        tester = (DOCS.parent / block.directives["tested by"]).read_text(encoding="utf-8")
        assert f'"{block.page.name}", "{block.language}"' in tester, "that test does not take it from this page"
    else:
        return False
    return True


def run_with_words(block: Block, url: str, workshop: Path) -> None:
    """A client of the guide's first service, or what such a client gets."""
    if "client" in block.directives:
        check_shell(addressed(block, url), workshop)
    elif "stream" in block.directives:
        session = f'"docs-{next(NUMBERS)}"'
        streamed = post_stream(url, block.directives["stream"].replace('"s1"', session))
        assert CLOCKS.sub("…", streamed) == CLOCKS.sub("…", block.text.replace('"s1"', session))
    elif "output" in block.directives:
        skip_without(before(block))
        compare_output(block, run_client(before(block), url, workshop))
    elif not is_output(BLOCKS.index(block) + 1):  # else its output's test runs it
        run_client(block, url, workshop)


def run_locked(block: Block, url: str, workshop: Path) -> None:
    """A client of the server with keys; that server's own blocks have been run when it is there."""
    if block.language == "python":
        run_client(block, url, workshop)
    elif block.directives["locked"] == "client":
        check_shell(addressed(block, url), workshop)


def addressed(block: Block, url: str) -> Block:
    """The block, with the server's address in the place of the default one."""
    return replace(block, text=block.text.replace(DEFAULT_HTTP, f"http{url.removeprefix('ws')}"))


CLOCKS = re.compile(r'(?<=^id: )\d+|(?<="processing_time_ms":)\d+|(?<="processing_time":)[\d.]+', re.MULTILINE)


def post_stream(url: str, body: str) -> str:
    """The whole answer to a POST."""
    address = f"http{url.removeprefix('ws')}/chat/stream"
    with urlopen(Request(address, body.encode(), {"Content-Type": "application/json"})) as answer:
        streamed: bytes = answer.read()
    return streamed.decode()


def skip_without(block: Block) -> None:
    needed = block.directives.get("needs")
    if needed and importlib.util.find_spec(needed) is None and shutil.which(needed) is None:
        pytest.skip(f"{needed} is not installed")


def compare_output(block: Block, printed: str) -> None:
    assert printed == block.text


async def run_server(block: Block, workshop: Path) -> None:
    file, _, mount = block.directives["server"].partition(" ")
    command = ["bash", "-ec", block.text] if block.language == "shell" else [sys.executable, "-W", "error", file]
    with serving(command, workshop) as url:
        await ask(url, mount)
        if "/announce" in block.text:
            async with open_websocket_url(f"{url}/chat-ws?session_id=listener") as ws:
                announced = await trio.to_thread.run_sync(read, f"http{url.removeprefix('ws')}/announce")
                assert announced == "told 1\n"
                assert json.loads(await ws.get_message()) == {"type": "notice", "text": "lunch is ready"}


def read(address: str) -> str:
    with urlopen(address) as answer:
        body: bytes = answer.read()
    return body.decode()


# ── Transcripts ──────────────────────────────────────────────────────────────────────────────────────────────────

MASKED = re.compile(r'"(timestamp|position)":"[^"]*"|"(processing_time_ms)":\d+')


async def play_on_both(block: Block, urls: list[str]) -> None:
    for url in urls:
        await play(block, url)


async def play(block: Block, url: str) -> None:
    """Send what the page sends, and expect what it expects: to the byte, but for clocks and the log's first offset."""
    session = f"docs-{next(NUMBERS)}"
    query = block.directives["transcript"]
    v1 = query == "subprotocol=trialogue.v1"
    address = f"{url}/chat-ws?session_id={session}&{'lang=en' if v1 else query}"
    async with open_websocket_url(address, subprotocols=["trialogue.v1"] if v1 else None) as ws:
        wanted: list[str] = []
        got: list[str] = []
        for line in [*block.text.splitlines(), '> {"type":"ping","id":0}', '< {"type":"pong","id":0}']:
            direction, text = line[:2], line[2:].replace('"session_id":"s1"', f'"session_id":"{session}"')
            if direction == "> ":
                await ws.send_message(text)
            else:
                assert direction == "< ", line
                check_json(text)
                wanted.append(text)
                with trio.fail_after(5):
                    got.append(await ws.get_message())
        assert masked(got) == masked(wanted)


def masked(frames: list[str]) -> list[str]:
    """Without clocks; offsets count from the first one, which is the log's business."""
    offsets = [int(found[1]) for text in frames if (found := re.search(r'"offset":(\d+)', text))]
    base = min(offsets, default=0)
    return [
        re.sub(r'"offset":(\d+)', lambda found: f'"offset":+{int(found[1]) - base}', MASKED.sub(r'"\1\2":…', text))
        for text in frames
    ]


# ── JSON, shell, TOML ────────────────────────────────────────────────────────────────────────────────────────────


def check_json(line: str) -> None:
    """A frame of the protocol, whole and in its form; or another JSON object."""
    body = json.loads(line)
    kind = body.get("type", "message" if "message_id" in body else None)
    if kind is None:
        return
    assert line == json.dumps(body, ensure_ascii=False, separators=(",", ":")), "frames are compact"
    if kind in SERVER_EVENTS:
        model = SERVER_EVENTS[kind].model_validate(body, strict=True)
        given = [name for name in type(model).model_fields if name in body]
        assert list(body)[: len(given)] == given, "keys stand in the contract's order, further ones at the end"
    elif kind in V1_FRAMES and not (kind == "typing" and not isinstance(parse(line), Invalid)):
        known = set(V1_FRAMES[kind].__dataclass_fields__)  # type: ignore[attr-defined]
        assert set(body) <= known | V1_EXTRAS, f"{kind} has no {set(body) - known - V1_EXTRAS}"
    else:
        command = parse(line)
        assert not isinstance(command, Invalid), command
        assert set(body) <= set(type(command).model_fields)


def check_json_lines(block: Block, _: Path) -> None:
    for line in block.text.splitlines():
        check_json(line)


def check_shell(block: Block, workshop: Path) -> None:
    done = subprocess.run(
        ["bash", "-ec", block.text],
        cwd=workshop,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def check_toml(block: Block, workshop: Path) -> None:
    """It is a configuration: `trialogue config` takes it, and shows each of its settings."""
    file = workshop / f"config_{block.line}.toml"
    file.write_text(block.text, encoding="utf-8")
    shown = subprocess.run(
        [sys.executable, "-m", "trialogue_adapters", "config", "--config", str(file)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert tomllib.loads(block.text).items() <= tomllib.loads(shown).items()


CHECKS = {"json": check_json_lines, "shell": check_shell, "toml": check_toml}


# ── What the pages claim in tables ──────────────────────────────────────────────────────────────────────────────


def test_the_error_table_is_the_code_s() -> None:
    listed = {cells[0].strip("|` "): cells[-1].strip("| ") for cells in rows(GUIDE, "## Errors")}
    assert set(listed) == set(ERRORS)
    for code, retry in listed.items():
        if code != "STREAM-001":
            assert (retry == "yes") is ERRORS[code].retryable, code


def test_the_onerag_names_are_the_code_s() -> None:
    listed = {cells[0].strip("|` "): re.findall(r"`([^`]+)`", cells[1]) for cells in rows(ONERAG, "## Error codes")}
    assert {code: names[-1] for code, names in listed.items()} == NAMES
    assert listed["WS-001"][0] == UNREADABLE


def test_the_close_codes_are_the_code_s() -> None:
    listed = {int(cells[0].strip("|` ")) for cells in rows(GUIDE, "### Close codes")}
    assert listed - {1006} <= set(CloseCode)


def test_the_policies_are_the_code_s() -> None:
    listed = rows(GUIDE, "## A message while something is unfinished")
    assert {cells[0].strip("|` ") for cells in listed} == set(Policy)
