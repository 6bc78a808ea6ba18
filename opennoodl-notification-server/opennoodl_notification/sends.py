"""The sends: how many notifications each user may still send in this hour, and all who are at one address."""

from .edge.limits import Quota

HOUR = 3600
"""Seconds."""
USERS_OF_AN_ADDRESS = 10
"""How many users' notifications may come from one address: people can call themselves anything, but not be anywhere."""


class Sends:
    """What users have sent in this hour.

    Args:
        per_hour: notifications of one user, and a tenth of what may come from one address; 0 means any number.
    """

    def __init__(self, per_hour: int) -> None:
        self._of_users = Quota(per_hour, HOUR)
        self._of_addresses = Quota(USERS_OF_AN_ADDRESS * per_hour, HOUR)

    def allow(self, user: str, address: str, number: int, now: float) -> bool:
        """Return whether `user` may send so many more at time `now`, in seconds, and count them if so."""
        # The address comes first: it bounds how many users there are to be remembered.
        if not _allow(self._of_addresses, address, number, now):
            return False
        if not _allow(self._of_users, user, number, now):
            _give_back(self._of_addresses, address, number)
            return False
        return True

    def has(self, user: str, address: str, number: int, now: float) -> bool:
        """Return whether `user` may send so many more at time `now`, in seconds."""
        if not self.allow(user, address, number, now):
            return False
        self.give_back(user, address, number)
        return True

    def give_back(self, user: str, address: str, number: int) -> None:
        """Take back what was counted: it was not sent after all."""
        _give_back(self._of_addresses, address, number)
        _give_back(self._of_users, user, number)


def _allow(quota: Quota, key: str, number: int, now: float) -> bool:
    for counted in range(number):
        if not quota.allow(key, now):
            _give_back(quota, key, counted)
            return False
    return True


def _give_back(quota: Quota, key: str, number: int) -> None:
    for _ in range(number):
        quota.give_back(key)
