"""The quotas of sending per hour: for each user, address and IPv6 site."""

from ..edge.admission.address_limits import rate_limit_key, site_key
from ..edge.limits import Quota

HOUR = 3600
"""Seconds."""
USERS_OF_AN_ADDRESS = 10
"""Quotas of users that one address has: a client can choose any user name, but not its address."""
USERS_OF_A_SITE = 20
"""Quotas of users that one IPv6 site has; it has 65,536 networks that count as addresses."""
BYTES_OF_AN_ADDRESS = 2
"""Byte quotas of users that one address has: stored bytes stay for days, and few addresses must not fill the store."""
BYTES_OF_A_SITE = 4
"""Byte quotas of users that one IPv6 site has."""


Amount = tuple[Quota, str, int]
"""A quota, the key that it counts, and the amount of a sending."""


class SendQuota:
    """Counts the notifications that users send in an hour.

    Args:
        per_hour: notifications of one user; 0 means no limit.
        bytes_per_hour: bytes of one user's notifications; 0 means no limit.
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
        """Return whether `user` may send notifications, and count them if so.

        Args:
            user: the user who sends.
            address: the address of the user's connection.
            number: the number of notifications.
            size: their bytes.
            now: the time in seconds.
        """
        amounts = self._amounts(user, address, number, size)
        # A refused user is not counted. Therefore the quotas of addresses limit the number of users in memory.
        if not all(quota.has(key, now, amount) for quota, key, amount in amounts):
            return False
        for quota, key, amount in amounts:
            quota.count(key, now, amount)
        return True

    def count(self, user: str, address: str, number: int, size: int, now: float) -> None:
        """Count a sending of `user` without a check, such as one through another instance."""
        for quota, key, amount in self._amounts(user, address, number, size):
            quota.count(key, now, amount)

    def has(self, user: str, address: str, number: int, size: int, now: float) -> bool:
        """Return whether `user` may send notifications, like `allow`, without counting them."""
        return all(quota.has(key, now, amount) for quota, key, amount in self._amounts(user, address, number, size))

    def give_back(self, user: str, address: str, number: int, size: int) -> None:
        """Undo `count` for a sending that was not stored."""
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
