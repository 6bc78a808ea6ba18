"""The header of a connection that one instance forwards to another, signed with ``CLUSTER_SECRET``.

The signature includes the receiver's name, which is new at each start. Therefore a copied header is not valid for
another instance or after a restart. It does not depend on a clock.
"""

import hmac

HEADER = "X-OpenNoodl-Passed-On"


class Signature:
    """Signs and checks the header.

    Args:
        secret: is shared by all instances.
        instance: the name of this instance.
    """

    def __init__(self, secret: str, instance: str) -> None:
        self._secret = secret.encode()
        self._instance = instance

    def sign(self, receiver: str, address: str, target: str) -> str:
        """Return the value of the header.

        Args:
            receiver: the name of the instance that gets the connection.
            address: the address of the client.
            target: path and query of the request.
        """
        return f"{address} {self._digest(receiver, address, target)}"

    def check(self, value: str, target: str) -> str | None:
        """Return the client's address from a header for this instance and `target`; None if it is not valid."""
        address, _, digest = value.partition(" ")
        expected = self._digest(self._instance, address, target)
        return address if hmac.compare_digest(digest.encode(errors="replace"), expected.encode()) else None

    def _digest(self, receiver: str, address: str, target: str) -> str:
        signed = "\n".join((receiver, address, target)).encode(errors="surrogateescape")
        return hmac.digest(self._secret, signed, "sha256").hex()
