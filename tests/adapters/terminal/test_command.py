"""The command line of `trialogue chat`: what is wrong with it is told in a line."""

from __future__ import annotations

import io
import sys

import pytest

from support.auth import write_files
from support.server import Server, environment, running
from support.terminal import Terminal
from trialogue_adapters.cli import main


def run(capsys: pytest.CaptureFixture[str], *flags: str, **variables: str) -> tuple[object, str, str]:
    """What `echo hello | trialogue chat FLAGS` comes to: exit code, standard output and standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO("hello"))
        for name, value in {"LC_ALL": "C", **variables}.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as left:
            main(["chat", *flags])
    return left.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["ftp://h"], 2, "trialogue chat: ftp: is no scheme of a chat"),
        (["h", "--session-id", "a b"], 2, "trialogue chat: session_id 'a b': 1 to 128 of"),
        (["http://127.0.0.1:1"], 1, "trialogue: unreachable: cannot connect to ws://127.0.0.1:1/chat-ws"),
        ([], 2, "usage: trialogue chat"),
        (["h", "--lang", "fr"], 2, "usage: trialogue chat"),
    ],
)
def test_what_is_wrong(flags: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, answer, aside = run(capsys, *flags)
    assert (exit_code, answer) == (code, "")
    assert aside.startswith(said)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = run(capsys, "--help")
    assert code == 0
    assert "--session-id" in shown


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("name", ["prompt_toolkit", "rich"])
def test_a_terminal_without_its_packages_says_so(name: str) -> None:
    program = f"import sys; sys.modules[{name!r}] = None; from trialogue_adapters.cli import main; main(['chat', 'h'])"
    terminal = Terminal([sys.executable, "-c", program], environment())
    assert terminal.exit_code() == 2
    assert f"{name} is missing; a terminal needs two more packages:" in terminal.text()


def test_a_token_from_the_environment(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path_factory.mktemp("locked")
    with running(folder, "hypercorn", write_files(folder)) as server:
        assert run(capsys, server.address)[0] == 1
        assert run(capsys, server.address, "--token", "key-of-bob")[0] == 0
        assert run(capsys, server.address, TRIALOGUE_CHAT_TOKEN="key-of-alice") == (0, "t0 t1 t2 \n", "")


def test_the_address_may_be_the_page_s(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, f"{server.address}/bot")[:2] == (0, "you said hello \n")
