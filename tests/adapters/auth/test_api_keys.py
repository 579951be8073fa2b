"""`auth/api_keys.py`: a file of keys that changes under us."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from trialogue_adapters.auth import Caller, Denied, Misconfigured
from trialogue_adapters.auth.api_keys import ApiKeys, read_keys


def shows(key: str) -> Caller:
    return Caller([(b"x-api-key", key.encode())])


def who(keys: ApiKeys, key: str) -> str | None:
    try:
        return keys.identify(shows(key)).principal
    except Denied as denied:
        return None if denied.status == 401 and (not key or key not in denied.reason) else str(denied)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# our clients\nalice:key-of-a\n\n bob : key:of:b \nalice:second-of-a\nnameless-key\n")
    return path


def test_each_key_is_its_name_s(path: Path) -> None:
    keys = ApiKeys(path)
    assert who(keys, "key-of-a") == who(keys, "second-of-a") == "alice"
    assert who(keys, "key:of:b") == "bob"
    nameless = who(keys, "nameless-key")
    assert nameless is not None
    assert nameless.startswith("key-")
    assert "nameless-key" not in nameless
    assert set(keys.principals()) == {"alice", "bob", nameless}
    assert repr(keys) == "<ApiKeys 4 of keys>"


@pytest.mark.parametrize(
    "key", ["", "key-of-", "key-of-aa", "KEY-OF-A", "alice:key-of-a", "alice", "# our clients", "é"]
)
def test_nothing_else_is_a_key(path: Path, key: str) -> None:
    assert who(ApiKeys(path), key) is None


def test_without_a_key_it_says_that_one_is_needed(path: Path) -> None:
    with pytest.raises(Denied, match="needed") as caught:
        ApiKeys(path).identify(Caller())
    assert caught.value.status == 401


def test_the_file_is_read_again_when_it_has_changed(path: Path) -> None:
    keys = ApiKeys(path)
    path.write_text("alice:new-key-of-a\nalice:key-of-a\n")
    assert who(keys, "new-key-of-a") == who(keys, "key-of-a") == "alice"
    assert who(keys, "key:of:b") is None
    path.write_text("alice:new-key-of-a\n")
    assert who(keys, "key-of-a") is None


def test_another_file_in_its_place_counts_as_well(path: Path, tmp_path: Path) -> None:
    """Mounted secrets are swapped like that: the same size, perhaps the same time, another file."""
    path.write_text("alice:one\n")
    keys = ApiKeys(path)
    before = path.stat()
    (tmp_path / "next").write_text("alice:two\n")
    os.utime(tmp_path / "next", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "next").replace(path)
    assert (who(keys, "one"), who(keys, "two")) == (None, "alice")


@pytest.mark.parametrize("broken", [None, "", "alice:has a space\n", "alice:one\nbob:one\n", b"\xff\xfe"])
def test_a_file_that_became_unusable_changes_nothing_and_is_logged_once(
    path: Path, broken: str | bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys(path)
    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    with caplog.at_level(logging.DEBUG):
        assert who(keys, "key-of-a") == who(keys, "key-of-a") == "alice"
    assert len(caplog.records) == 1
    assert caplog.records[0].levelname == "ERROR"
    assert "has a space" not in caplog.text
    path.write_text("carol:key-of-c\n")
    assert (who(keys, "key-of-a"), who(keys, "key-of-c")) == (None, "carol")


UNUSABLE = {
    "": "no key",
    "# nothing but a comment": "no key",
    "ok:fine\nname:": "line 2",
    ":key-without-name": "line 1",
    "a:two words": "line 1",
    "a:schlüssel": "line 1",
    "a:v1.looks-like-a-ws-token": "line 1",
    "a:same\nb:same": "line 2",
    "a\tb:key": "line 1",
}


@pytest.mark.parametrize("text", UNUSABLE)
def test_a_file_that_is_wrong_is_said_at_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=UNUSABLE[text]) as caught:
        read_keys(path)
    assert str(path) in str(caught.value)
    assert "words" not in str(caught.value)


def test_a_missing_file_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        ApiKeys(tmp_path / "nowhere")
