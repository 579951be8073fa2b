"""`services.py` and what stands behind it: each way in which a service cannot be loaded is one line with its remedy.

The lines are the real command's, each in a process of its own. What it does with a service that can be loaded is
tests/conformance's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.server import environment, said, serve_words

FILES = {
    "wrong.py": """
import trio

class Service:
    async def stream_rag_pipeline(self, message, session_id, options=None):
        yield "x"

class NeedsArguments(Service):
    def __init__(self, database, *, key, cache=None):
        pass

class FiveArguments:
    async def stream_rag_pipeline(self, message, session_id, options, tenant, *, locale):
        yield "x"

def blocking(message, session_id, options=None):
    yield "x"

async def asynchronous(message, session_id, options=None):
    yield "x"

async def async_factory():
    return Service()

def forgot_to_return():
    Service()

def wants_asyncio():
    import asyncio
    asyncio.get_running_loop()
    return Service()

async def wants_trio():
    await trio.sleep(0)
    return Service()

def raises():
    raise ConnectionError("no database today")

def bridge():
    from trialogue_adapters.bridges.openai import OpenAIService
    return OpenAIService("http://127.0.0.1:1/v1", "m")

def one(message):
    yield "x"

number = 5
nothing = None
""",
    "leaves.py": "import sys\n\nsys.exit('usage: leaves FILE')\n",
    "breaks.py": "\n\n1 / 0\n",
    "needs.py": "import not_installed_anywhere\n",
    "typo.py": "def (\n",
    "half.py": "from wrong import does_not_exist\n",
}

WRONG: list[tuple[str, str, tuple[str, ...]]] = [
    ("asyncio", "wrong", ("must be MODULE:ATTR",)),
    ("asyncio", "wrong.py:Service", ("not a file's", "try wrong:Service")),
    ("asyncio", "./wrong:Service", ("not a file's", "try wrong:Service")),
    ("asyncio", "app/wrong.py:Service", ("try app.wrong:Service",)),
    ("asyncio", "wrogn:Service", ("there is no module 'wrogn'", "did you mean 'wrong'?")),
    ("asyncio", "wrong.inner:Service", ("cannot import 'wrong.inner'", "'wrong.inner'")),
    ("asyncio", "needs:service", ("it needs 'not_installed_anywhere'", "not installed", "(needs.py, line 1)")),
    ("asyncio", "breaks:service", ("raised ZeroDivisionError", "(breaks.py, line 3)")),
    ("asyncio", "leaves:service", ("raised SystemExit: usage: leaves FILE", "(leaves.py, line 3)", "__name__")),
    ("asyncio", "typo:service", ("SyntaxError", "typo.py, line 1")),
    ("asyncio", "half:service", ("ImportError", "does_not_exist")),
    ("asyncio", "wrong:Servise", ("has no 'Servise'", "did you mean 'Service'?")),
    ("asyncio", "wrong:Service.missing", ("has no 'missing'",)),
    ("asyncio", "wrong:number", ("int has no method `stream_rag_pipeline(message, session_id, options)`",)),
    ("asyncio", "wrong:nothing", ("it is None",)),
    ("asyncio", "wrong:NeedsArguments", ("without database, key", "name a function without arguments")),
    ("asyncio", "wrong:FiveArguments", ("needs more than (message, session_id, options): tenant, locale",)),
    ("asyncio", "wrong:one", ("must take (message, session_id)", "plain_service")),
    ("asyncio", "wrong:forgot_to_return", ("None has no method", "must return it")),
    ("asyncio", "wrong:blocking", ("no async generator but a plain one", "--service-runtime sync")),
    ("trio", "wrong:blocking", ("no async generator but a plain one", "--service-runtime sync")),
    ("sync", "wrong:asynchronous", ("is async", "--service-runtime asyncio (or trio)")),
    ("sync", "wrong:Service", ("is async", "--service-runtime asyncio (or trio)")),
    ("sync", "wrong:async_factory", ("`async_factory` is async", "--service-runtime asyncio (or trio)")),
    ("trio", "wrong:wants_asyncio", ("'no running event loop'", "add --service-runtime asyncio")),
    ("sync", "wrong:wants_asyncio", ("'no running event loop'", "add --service-runtime asyncio")),
    ("asyncio", "wrong:wants_trio", ("bad yield: <class 'trio", "add --service-runtime trio")),
    ("asyncio", "wrong:bridge", ("OpenAIService runs on trio", "add --service-runtime trio")),
    ("asyncio", "sse:nonsense", ("'nonsense' is no address of an HTTP server",)),
    ("asyncio", "sse:ftp://x/y", ("is no address of an HTTP server",)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("services")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("runtime", "name", "words"), WRONG, ids=[f"{name}-{runtime}" for runtime, name, _ in WRONG])
def test_a_wrong_service_is_one_line_with_its_remedy_and_exit_code_2(
    folder: Path, runtime: str, name: str, words: tuple[str, ...]
) -> None:
    done = said(folder, "serve", "--port", "0", "--service", name, "--service-runtime", runtime)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in (f"--service {name!r}", *words):
        assert word in done.stderr


def test_what_a_factory_raises_is_told_with_where_it_was_raised_and_in_the_last_line(folder: Path) -> None:
    done = said(folder, *serve_words("hypercorn", "wrong:raises"))
    assert done.returncode == 2
    assert "no database today" in done.stderr.splitlines()[-1]
    assert "wrong:raises" in done.stderr.splitlines()[-1]
    assert "wrong.py" in done.stderr


OPENAI: list[tuple[tuple[str, ...], str]] = [
    (("--answer", "openai"), "--answer openai needs --llm-url and --model"),
    (("--answer", "openai", "--llm-url", "http://x/v1"), "needs --llm-url and --model"),
    (("--llm-url", "http://x/v1"), "belong to --answer openai"),
    (("--no-retrieval",), "belong to --answer openai"),
    (("--answer", "openai", "--llm-url", "http://x", "--model", "m", "--service", "a:b"), "one of them only"),
    (("--answer", "openai", "--llm-url", "localhost:1", "--model", "m", "--no-retrieval"), "--llm-url: 'localhost:1'"),
    (("--answer", "openai", "--llm-url", "http://x", "--model", "m", "--docs", "nowhere"), "nowhere"),
]


@pytest.mark.parametrize(("flags", "line"), OPENAI)
def test_settings_that_make_no_answerer_are_named(folder: Path, flags: tuple[str, ...], line: str) -> None:
    done = said(folder, *serve_words("hypercorn", None, *flags), OPENAI_API_KEY="sesame")
    assert done.returncode == 2
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "sesame" not in done.stderr


@pytest.mark.parametrize("variable", ["TRIALOGUE_LLM_API_KEY", "OPENAI_API_KEY"])
def test_the_key_is_never_shown(folder: Path, variable: str) -> None:
    words = ("config", "--answer", "openai", "--llm-url", "http://x/v1", "--model", "m")
    done = said(folder, *words, **{variable: "sesame"})
    assert done.returncode == 0
    assert '# llm_api_key = "**********"' in done.stdout
    assert variable in done.stdout
    assert "sesame" not in done.stdout + done.stderr


def test_our_variable_comes_before_theirs(folder: Path) -> None:
    keys = {"TRIALOGUE_LLM_API_KEY": "ours", "OPENAI_API_KEY": "theirs"}
    code = "from trialogue_adapters.settings import Settings; print(Settings().llm_api_key.get_secret_value())"
    words, given = (sys.executable, "-c", code), {**environment(), **keys}
    done = subprocess.run(words, cwd=folder, env=given, capture_output=True, text=True, timeout=15, check=True)
    assert done.stdout.strip() == "ours"
