"""`servers/address.py`: whose address counts, with proxies and with liars."""

from __future__ import annotations

import pytest

from trialogue_adapters.servers.address import client_address


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "client"),
    [
        ("10.0.0.1", [], 0, "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], 0, "10.0.0.1"),  # nobody in front of us: it is a claim of the client
        ("10.0.0.1", ["1.2.3.4"], 1, "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4"], 1, "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9", "1.2.3.4"], 1, "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4, 10.0.0.2"], 2, "1.2.3.4"),
        ("10.0.0.1", [], 1, "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], 1, "10.0.0.1"),
        ("::ffff:1.2.3.4", [], 0, "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", [], 0, "2001:db8:1:2::/64"),
        ("", [], 0, ""),
    ],
)
def test_whose_address_counts(peer: str, forwarded: list[str], proxies: int, client: str) -> None:
    assert client_address(peer, forwarded, proxies) == client
