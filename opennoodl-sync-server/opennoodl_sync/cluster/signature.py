"""The header with which one instance passes a connection on to another, signed with ``CLUSTER_SECRET``.

The signature covers the name of the receiver, which is new at each start, so a header that was read elsewhere is of no
use at another instance or after a restart. No clock is involved.
"""

import hmac

HEADER = "X-OpenNoodl-Passed-On"


class Signature:
    """Signs and checks the header.

    Args:
        secret: that all instances share.
        instance: the name of this one.
    """

    def __init__(self, secret: str, instance: str) -> None:
        self._secret = secret.encode()
        self._instance = instance

    def sign(self, receiver: str, address: str, target: str) -> str:
        """Return the value of the header.

        Args:
            receiver: the name of the instance that gets the connection.
            address: of the client.
            target: path and query of the request.
        """
        return f"{address} {self._digest(receiver, address, target)}"

    def check(self, value: str, target: str) -> str | None:
        """Return the client's address if another instance has signed this header for this one, else None."""
        address, _, digest = value.partition(" ")
        expected = self._digest(self._instance, address, target)
        return address if hmac.compare_digest(digest.encode(errors="replace"), expected.encode()) else None

    def _digest(self, receiver: str, address: str, target: str) -> str:
        signed = "\n".join((receiver, address, target)).encode(errors="surrogateescape")
        return hmac.digest(self._secret, signed, "sha256").hex()
