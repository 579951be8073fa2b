"""The command: reads its arguments, chooses between a terminal and a pipe, and says in one line what went wrong.

Exit codes: 0 all is well, 1 the server or the answer failed, 2 the command line is wrong, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import anyio

from trialogue.core.protocol import MAX_CONTENT_CHARS
from trialogue_adapters.client import ChatError, connect
from trialogue_adapters.terminal.piped import INTERRUPTED, ask, explain, say_aside
from trialogue_adapters.terminal.words import LANGUAGES, Words, language_of

TOKEN_VARIABLE = "TRIALOGUE_CHAT_TOKEN"  # noqa: S105 - a name, no token
MISSING = "a terminal needs two more packages: pip install 'trialogue[chat]' (a pipe needs none of them)"


def chat(words: Sequence[str]) -> int:
    """Run `trialogue chat` with these arguments. Returns the exit code; exits with 2 on a wrong command line."""
    given = _parser().parse_args(words)
    texts = LANGUAGES[given.lang]
    try:
        if sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            return anyio.run(_talk, given, texts, backend="asyncio")
        return anyio.run(_pipe, given, texts, backend="trio")
    except ValueError as error:
        say_aside(f"trialogue chat: {error}")
        return 2
    except ChatError as error:
        explain(error)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseExceptionGroup as errors:  # of a task group's
        if errors.subgroup(KeyboardInterrupt) is None:
            raise
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trialogue chat", description="Talk to a session from a terminal, or through a pipe."
    )
    parser.add_argument("url", metavar="URL", help="http(s):// or ws(s)://, with or without /chat-ws")
    parser.add_argument("--session-id", metavar="ID", help="which session (default: the URL's, else a new one)")
    parser.add_argument("--lang", choices=sorted(LANGUAGES), default=language_of(os.environ), help="of all texts")
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE),
        help=f"an API key, a JWT or a ws_token (default: ${TOKEN_VARIABLE}, which other users do not see)",
    )
    return parser


async def _talk(given: argparse.Namespace, texts: Words) -> int:
    try:
        from trialogue_adapters.terminal.interactive import Terminal  # its packages are an extra
    except ModuleNotFoundError as error:
        say_aside(f"trialogue chat: {(error.name or '').partition('.')[0]} is missing; {MISSING}")
        return 2
    async with connect(given.url, session_id=given.session_id, lang=given.lang, token=given.token) as session:
        ended_by = await Terminal(session, texts).run()
    if ended_by:
        explain(ended_by)
    return 1 if ended_by else 0


async def _pipe(given: argparse.Namespace, texts: Words) -> int:
    question = (await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)).strip()
    if not question:
        raise ValueError(texts.empty)
    if len(question) > MAX_CONTENT_CHARS:
        raise ValueError(f"the question has {len(question)} characters, of at most {MAX_CONTENT_CHARS}")
    async with connect(given.url, session_id=given.session_id, lang=given.lang, token=given.token) as session:
        return await ask(session, question, texts)
