"""Rooms: the documents in memory and their clients. These modules know no socket.

* ``room`` is one document and its clients, with its ``records`` and its ``slow_readers``;
* ``registry`` loads rooms, lets idle ones leave, and compacts documents in ``fair_turns``;
* ``awareness`` has the clients' awareness states;
* ``flusher`` ends a turn: it stores what changed, then tells it;
* ``timeslicer`` runs long work in short slices between the turns;
* ``transfer`` sends a large answer in parts, ``keepalive`` finds clients that were sent nothing for a while.
"""
