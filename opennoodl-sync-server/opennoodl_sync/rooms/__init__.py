"""Rooms: the documents in memory and their clients. These modules import no socket.

* ``room`` is one document and its clients, with its ``records`` and its ``slow_readers``;
* ``registry`` loads rooms, unloads idle rooms, and compacts documents in ``fair_turns``;
* ``awareness`` stores the clients' awareness states;
* ``flusher`` ends a turn: it stores the changes, then sends them;
* ``timeslicer`` runs long work in short slices between the turns;
* ``transfer`` sends a large answer in parts, and ``keepalive`` finds clients without recent messages.
"""
