"""The signaling server, and the servers that it is measured against."""

import sys
from functools import partial

from . import signaling_load
from .scenarios import Scenario
from .servers import Peer
from .signaling_load import Load

UNLIMITED = (
    "RATE_LIMIT",
    "BYTE_RATE_LIMIT",
    "MAX_CONNECTIONS",
    "MAX_CONNECTIONS_PER_IP",
    "HANDSHAKE_RATE_LIMIT",
    "SLOW_CLIENT_BUFFER",
)
PEERS = (
    Peer(
        "ours",
        "opennoodl-signaling-server, without limits",
        (sys.executable, "-m", "opennoodl_signaling"),
        {
            "PORT": "{port}",
            "HOST": "127.0.0.1",
            "LOG_FORMAT": "json",
            **dict.fromkeys(UNLIMITED, "0"),
        },
    ),
    Peer(
        "y-webrtc",
        "y-webrtc 10.3's own server: topics only",
        ("node", "node_modules/y-webrtc/bin/server.js"),
        {"PORT": "{port}", "HOST": "127.0.0.1"},
    ),
    Peer(
        "ws-minimal",
        "a minimal server in JavaScript on ws: rooms only, no checks",
        ("node", "peers/ws_rooms.mjs"),
        {"PORT": "{port}"},
    ),
    Peer(
        "picows",
        "the same little in Python on picows, whose frames are made in C: for reference",
        (sys.executable, "peers/picows_signaling.py"),
        {"PORT": "{port}"},
        reference=True,
    ),
)
ROOMS = frozenset({"ours", "ws-minimal", "picows"})
TOPICS = frozenset({"ours", "y-webrtc", "picows"})


def scenarios(*, quick: bool) -> list[Scenario]:
    """Return the scenarios of the signaling server."""
    limit, part, connections = (10.0, 20, 200) if quick else (30.0, 1, 10_000)
    topics = Load(20, 5, 1500 // part)
    rooms = Load(50, 2, 2000 // part)
    relays = [
        Scenario(
            "publish",
            f"{topics.groups} topics x {topics.members}, {topics.messages:,} messages each",
            "Saturated relays",
            signaling_load.METRICS,
            partial(signaling_load.publish, load=topics, limit=limit),
            peers=TOPICS,
        ),
        Scenario(
            "signal",
            f"{rooms.groups} rooms x 2, {rooms.messages:,} signals each",
            "Saturated relays",
            signaling_load.METRICS,
            partial(signaling_load.signal, load=rooms, limit=limit),
            peers=ROOMS,
        ),
        *(
            Scenario(
                f"beside-{others}",
                f"5 rooms x 2, with {others:,} other rooms",
                "Saturated relays beside quiet rooms",
                signaling_load.METRICS,
                partial(signaling_load.signal, load=Load(5, 2, 10_000 // part), limit=limit, beside=others),
                peers=ROOMS,
            )
            for others in ((1, 10) if quick else (1, 100, 1000))
        ),
    ]
    return [
        *relays,
        Scenario(
            "crowd",
            f"{connections:,} connections at 1,000/s, in rooms of 10",
            "Crowds",
            signaling_load.CROWD_METRICS,
            partial(signaling_load.crowd, connections=connections, rate=1000),
            peers=ROOMS,
        ),
        Scenario(
            "herd",
            f"{connections:,} connections back within 2.5 s of a restart",
            "Crowds",
            signaling_load.CROWD_METRICS,
            partial(signaling_load.herd, connections=connections, within=2.5),
            peers=ROOMS,
        ),
    ]
