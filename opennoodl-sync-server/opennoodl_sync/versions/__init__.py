"""Versions: documents as they were, so that a mistake can be undone. These modules know no socket.

* ``schedule`` says which versions are kept for how long;
* ``keeper`` makes versions while the server runs, and drops old ones;
* ``making`` makes and restores one version, for the server and for the operator's commands;
* ``times`` reads and writes the times of versions.
"""
