"""The SQL of the store.

The instance in `owner` owns a room until that instance's lease expires. Each time an instance becomes the owner, also
the same one again, the room gets a higher epoch. Each change of a document checks owner and epoch, and locks the row of
the room. Therefore it happens before another instance becomes the owner, or changes nothing.
"""

# ruff: noqa: S608  # the parts that are put together are all here

FREE = """(r.owner IS NULL OR r.owner = $2 OR NOT EXISTS (
    SELECT FROM opennoodl_sync.instances i WHERE i.name = r.owner AND i.expires > now()))"""

FIND = """
SELECT i.name, i.url FROM opennoodl_sync.rooms r JOIN opennoodl_sync.instances i ON i.name = r.owner
WHERE r.name = $1 AND i.name <> $2 AND i.expires > now()
"""
"""The other instance that owns a room. Values: room, this instance."""

TAKE = f"""
INSERT INTO opennoodl_sync.rooms AS r (name, owner, epoch) VALUES ($1, $2, nextval('opennoodl_sync.epochs'))
ON CONFLICT (name) DO UPDATE SET owner = $2, epoch = nextval('opennoodl_sync.epochs') WHERE {FREE}
RETURNING epoch
"""
"""Makes an instance the owner of a room; returns the epoch, or no row if another owns it. Values: room, instance."""

READ = """
SELECT NULL::bigint AS seq, base_index AS data, NULL::bigint AS checksum, first, last
FROM opennoodl_sync.rooms WHERE name = $1
UNION ALL
SELECT seq, data, checksum, NULL, NULL FROM opennoodl_sync.updates WHERE room = $1
ORDER BY seq NULLS FIRST
"""
"""The row of a room, if it exists, followed by its updates. Value: room."""

_HELD = """
WITH held AS (
    SELECT r.name, r.epoch FROM opennoodl_sync.rooms r
    JOIN unnest($2::text[], $3::bigint[], $4::bigint[]) AS given(name, epoch, behind)
        ON r.name = given.name AND r.epoch = given.epoch
    WHERE r.owner = $1 AND (given.behind < 0 OR EXISTS (
        SELECT FROM opennoodl_sync.updates u WHERE u.room = r.name AND u.seq = given.behind))
    FOR SHARE OF r
)"""

_STORED = """
    INSERT INTO opennoodl_sync.updates (room, seq, epoch, data, checksum)
    SELECT held.name, added.seq, held.epoch, added.data, added.checksum
    FROM unnest($5::text[], $6::bigint[], $7::bytea[], $8::bigint[]) AS added(name, seq, data, checksum)
    JOIN held ON held.name = added.name"""

STORE = f"{_HELD}, stored AS ({_STORED}) SELECT name FROM held"
"""Stores updates of rooms that this instance owns; returns those rooms.

An update is stored only after its predecessor. Therefore a database that has lost its last commits, as after a
failover, gets no gap. Values: this instance; names, epochs and last stored numbers (or -1) of the rooms; rooms,
numbers, data and checksums of the updates.
"""

REPLACE = f"""{_HELD}, replaced AS (
    SELECT held.name, made.first, made.last, made.base_index
    FROM unnest($9::text[], $10::bigint[], $11::bigint[], $12::bytea[]) AS made(name, first, last, base_index)
    JOIN held ON held.name = made.name
), deleted AS (
    DELETE FROM opennoodl_sync.updates u USING replaced WHERE u.room = replaced.name AND u.seq <= replaced.last
    RETURNING 1
), noted AS (
    UPDATE opennoodl_sync.rooms r SET first = replaced.first, last = replaced.last, base_index = replaced.base_index
    FROM replaced WHERE r.name = replaced.name
), stored AS ({_STORED} WHERE (SELECT count(*) FROM deleted) >= 0)
SELECT name FROM held
"""
"""The same, for rooms whose updates up to a number are replaced.

The condition on `deleted` makes the deletions come before the new numbers. Further values: names, first and last
numbers, and indexes of those rooms.
"""

DELETE = """
WITH gone AS (
    DELETE FROM opennoodl_sync.rooms r WHERE r.owner = $1 AND r.name = $2 AND r.epoch = $3 RETURNING r.name
), deleted AS (
    DELETE FROM opennoodl_sync.updates u USING gone WHERE u.room = gone.name
)
SELECT name FROM gone
"""
"""Deletes a document. Values: this instance, room, epoch."""

RELEASE = """
UPDATE opennoodl_sync.rooms r SET owner = NULL
FROM unnest($2::text[], $3::bigint[]) AS given(name, epoch)
WHERE r.owner = $1 AND r.name = given.name AND r.epoch = given.epoch
"""
"""Releases rooms. Values: this instance; names and epochs of the rooms."""

FORGET = """
DELETE FROM opennoodl_sync.rooms r USING unnest($2::text[], $3::bigint[]) AS given(name, epoch)
WHERE r.owner = $1 AND r.name = given.name AND r.epoch = given.epoch AND r.last < 0
"""
"""The same for rooms without any update: it deletes their rows."""

OWNED = """
SELECT r.name, r.epoch, (SELECT max(u.seq) FROM opennoodl_sync.updates u WHERE u.room = r.name) AS last
FROM opennoodl_sync.rooms r WHERE r.owner = $1
"""
"""The rooms of this instance, their epochs and last numbers. Value: this instance."""

CROWDED = """
SELECT r.name FROM opennoodl_sync.rooms r
WHERE r.name > $1 AND r.owner IS NULL AND (
    SELECT count(*) FROM (SELECT FROM opennoodl_sync.updates u WHERE u.room = r.name LIMIT $2 + 1) AS few
) > $2
ORDER BY r.name LIMIT 100
"""
"""Rooms without an owner that have more than a number of updates. Values: the previous room, the number."""

NAMES = """
SELECT name FROM opennoodl_sync.rooms WHERE last >= 0
UNION SELECT DISTINCT room FROM opennoodl_sync.updates u
    WHERE NOT EXISTS (SELECT FROM opennoodl_sync.rooms r WHERE r.name = u.room)
ORDER BY 1
"""
"""The names of all documents."""

HISTORY = """
SELECT v.made, length(v.data) AS size, v.last FROM opennoodl_sync.versions v WHERE v.room = $1 ORDER BY v.made
"""
"""The versions of a document. Value: room."""

LAST = "SELECT coalesce(max(seq), -1) AS last FROM opennoodl_sync.updates WHERE room = $1"
"""The number of the last update of a document. Value: room."""

WITH_VERSIONS = """
SELECT DISTINCT room FROM opennoodl_sync.versions WHERE room > $1 ORDER BY room LIMIT 100
"""
"""Documents that have versions. Value: the previous document."""

READ_VERSION = "SELECT data, checksum FROM opennoodl_sync.versions WHERE room = $1 AND made = $2"
"""The content of a version. Values: room, time."""

CHANGE_VERSIONS = """
WITH dropped AS (
    DELETE FROM opennoodl_sync.versions WHERE room = $1 AND made = ANY($2::bigint[])
)
INSERT INTO opennoodl_sync.versions (room, made, last, data, checksum)
SELECT r.name, added.made, added.last, added.data, added.checksum FROM opennoodl_sync.rooms r,
    unnest($3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[]) AS added(made, last, data, checksum)
WHERE r.name = $1
"""
"""Adds and deletes versions of a document, unless the document has been deleted.

Values: room; times to delete; times, last numbers, contents and checksums of the versions to add.
"""

IS_CLOSED = "SELECT EXISTS (SELECT FROM opennoodl_sync.closed WHERE room = $1) AS closed"
"""Whether a room is closed. Value: room."""

CLOSE = "INSERT INTO opennoodl_sync.closed (room) VALUES ($1) ON CONFLICT DO NOTHING"
"""Closes a room. Value: room."""

REOPEN = "DELETE FROM opennoodl_sync.closed WHERE room = $1"
"""Opens a room again. Value: room."""

CLOSED_NAMES = "SELECT room FROM opennoodl_sync.closed ORDER BY room"
"""The names of all closed rooms."""

EXISTS = """
SELECT EXISTS (SELECT FROM opennoodl_sync.rooms WHERE name = $1 AND last >= 0)
    OR EXISTS (SELECT FROM opennoodl_sync.updates WHERE room = $1) AS exists
"""

RENEW = """
INSERT INTO opennoodl_sync.instances (name, url, expires) VALUES ($1, $2, now() + $3 * interval '1 second')
ON CONFLICT (name) DO UPDATE SET url = excluded.url, expires = excluded.expires
RETURNING xmax = 0 AS made
"""
"""Renews a lease, and returns whether it was missing. Values: this instance, its URL, seconds."""

ALIVE = "SELECT name FROM opennoodl_sync.instances WHERE name = ANY($1) AND expires > now()"
"""The instances with a valid lease among some. Value: names."""

OTHERS = "SELECT count(*) AS number FROM opennoodl_sync.instances WHERE name <> $1 AND expires > now()"
"""The number of other instances with a lease. Value: this instance."""

RETIRE = "DELETE FROM opennoodl_sync.instances WHERE name = $1"

SWEEP = (
    "DELETE FROM opennoodl_sync.instances WHERE expires < now() - interval '1 hour'",
    """DELETE FROM opennoodl_sync.rooms r WHERE r.last < 0 AND NOT EXISTS (
        SELECT FROM opennoodl_sync.instances i WHERE i.name = r.owner)""",
)
"""Deletes rows of crashed instances, an hour later."""
