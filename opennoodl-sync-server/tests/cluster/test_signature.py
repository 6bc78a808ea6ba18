"""The signed header with which a connection is passed on."""

from __future__ import annotations

import pytest
from opennoodl_sync.cluster.signature import Signature

SECRET = "s" * 32


def test_signed_header_has_the_clients_address() -> None:
    """The receiver reads the client's address out of the header."""
    header = Signature(SECRET, "one").sign("two", "2001:db8::1", "/room?ack=true")
    assert Signature(SECRET, "two").check(header, "/room?ack=true") == "2001:db8::1"


@pytest.mark.parametrize("fault", ["secret", "receiver", "target", "address", "nothing", "digest"])
def test_forged_header_proves_nothing(fault: str) -> None:
    """A header for another instance, path or address, or with another secret, proves nothing."""
    header = Signature(SECRET, "one").sign("two", "192.0.2.1", "/room")
    secret = "t" * 32 if fault == "secret" else SECRET
    name = "three" if fault == "receiver" else "two"
    target = "/other" if fault == "target" else "/room"
    if fault == "address":
        header = header.replace("192.0.2.1", "192.0.2.2")
    elif fault == "nothing":
        header = ""
    elif fault == "digest":
        header = "192.0.2.1 é"
    assert Signature(secret, name).check(header, target) is None
