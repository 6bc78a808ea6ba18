"""The quotas of sending: for each user, address and IPv6 site, in an hour."""

from ..edge.admission.address_limits import rate_limit_key, site_key
from ..edge.limits import Quota

HOUR = 3600
"""Seconds."""
USERS_OF_AN_ADDRESS = 10
"""How many users' notifications may come from one address: people can call themselves anything, but not be anywhere."""
USERS_OF_A_SITE = 20
"""How many users' notifications may come from one IPv6 site, which has 65,536 networks that count as addresses."""
BYTES_OF_AN_ADDRESS = 2
"""How many users' bytes may come from one address: they last for days, and so few addresses must not fill the store."""
BYTES_OF_A_SITE = 4
"""How many users' bytes may come from one IPv6 site."""


Amount = tuple[Quota, str, int]
"""A quota, the key that it counts, and how much of it a sending takes."""


class SendQuota:
    """What users have sent in this hour.

    Args:
        per_hour: notifications of one user; 0 means any number.
        bytes_per_hour: bytes of these; 0 means any number.
    """

    def __init__(self, per_hour: int, bytes_per_hour: int = 0) -> None:
        self._of_sites, self._of_addresses, self._of_users = (
            (Quota(users * per_hour, HOUR), Quota(parts * bytes_per_hour, HOUR))
            for users, parts in (
                (USERS_OF_A_SITE, BYTES_OF_A_SITE),
                (USERS_OF_AN_ADDRESS, BYTES_OF_AN_ADDRESS),
                (1, 1),
            )
        )

    def allow(self, user: str, address: str, number: int, size: int, now: float) -> bool:
        """Return whether `user` may send so many notifications of so many bytes, and count them if so.

        Args:
            user: who sends.
            address: where the user is.
            number: of notifications.
            size: their bytes.
            now: the time in seconds.
        """
        amounts = self._amounts(user, address, number, size)
        # A refused user is not counted. So the quotas of addresses bound how many users are remembered.
        if not all(quota.has(key, now, amount) for quota, key, amount in amounts):
            return False
        for quota, key, amount in amounts:
            quota.count(key, now, amount)
        return True

    def count(self, user: str, address: str, number: int, size: int, now: float) -> None:
        """Count what `user` has sent, also through another instance."""
        for quota, key, amount in self._amounts(user, address, number, size):
            quota.count(key, now, amount)

    def has(self, user: str, address: str, number: int, size: int, now: float) -> bool:
        """Return whether `user` may send so much, as `allow` does, but count nothing."""
        return all(quota.has(key, now, amount) for quota, key, amount in self._amounts(user, address, number, size))

    def give_back(self, user: str, address: str, number: int, size: int) -> None:
        """Take back what was counted: it was not sent after all."""
        for quota, key, amount in self._amounts(user, address, number, size):
            quota.give_back(key, amount)

    def _amounts(self, user: str, address: str, number: int, size: int) -> list[Amount]:
        of_each = (
            (self._of_sites, site_key(address)),
            (self._of_addresses, rate_limit_key(address)),
            (self._of_users, user),
        )
        return [
            (quota, key, amount)
            for quotas, key in of_each
            for quota, amount in zip(quotas, (number, size), strict=True)
        ]
