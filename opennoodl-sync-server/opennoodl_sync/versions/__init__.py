"""Versions: stored copies of documents, to undo mistakes. These modules import no socket.

* ``schedule`` decides which versions are kept, and for how long;
* ``scheduler`` makes versions while the server runs, and deletes old ones;
* ``making`` makes and restores one version, for the server and for the operator's commands;
* ``times`` parses and formats the times of versions.
"""
