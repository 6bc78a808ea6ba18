"""The session: the description of a room that its host sets and that the session preview shows."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Title = Annotated[str, Meta(max_length=256)]
Description = Annotated[str, Meta(max_length=4096)]


class Features(Struct, frozen=True, rename="camel"):
    """The features of a session besides editing."""

    audio_enabled: bool = False
    video_enabled: bool = False
    screen_share_enabled: bool = False


class SessionInfo(Struct, frozen=True):
    """The description of a room."""

    title: str = ""
    description: str = ""
    max_participants: int | None = None
    features: Features = Features()


class FeaturesChange(Struct, frozen=True, rename="camel"):
    """The features that change. `null` resets a feature to its default."""

    audio_enabled: bool | UnsetType | None = UNSET
    video_enabled: bool | UnsetType | None = UNSET
    screen_share_enabled: bool | UnsetType | None = UNSET


class SessionChange(Struct, frozen=True, rename="camel"):
    """The fields of a session that change. `null` resets a field to its default."""

    title: Title | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    max_participants: Annotated[int, Meta(ge=1)] | UnsetType | None = UNSET
    features: FeaturesChange | UnsetType | None = UNSET

    def applied(self, info: SessionInfo) -> SessionInfo:
        """Return `info` with these changes."""
        named = _named(self, SessionInfo())
        if isinstance(self.features, FeaturesChange):
            named["features"] = msgspec.structs.replace(info.features, **_named(self.features, Features()))
        return msgspec.structs.replace(info, **named)


def _named(change: Struct, defaults: Struct) -> dict[str, Any]:
    """Return the values of the fields that are set in `change`. The value of a `null` is in `defaults`."""
    values = {name: getattr(change, name) for name in change.__struct_fields__}
    return {
        name: getattr(defaults, name) if value is None else value
        for name, value in values.items()
        if value is not UNSET
    }
