"""Processes beside the server: work that takes long, or that a library may fail at, is done there, within limits.

* ``compactor`` runs ``compaction``: it makes one small update of those of a document;
* ``interpreter`` runs ``interpretation``: it asks pycrdt for what a document means;
* ``limits`` and ``messages`` are what the processes share.
"""
