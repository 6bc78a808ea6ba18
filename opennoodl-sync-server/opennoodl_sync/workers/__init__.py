"""Processes beside the server: work that takes long, or that a library may fail at, is done there, within limits.

* ``compaction`` is what ``compactor`` runs: it makes one small update of those of a document;
* ``interpretation`` is what ``interpreter`` runs: it asks pycrdt for what a document means;
* ``limits`` and ``messages`` are what they share.
"""
