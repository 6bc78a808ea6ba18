"""Worker processes: they do work that takes long or that a library may fail at, with limits on time and memory.

* ``compactor`` starts ``compaction_process``, which merges the updates of a document into one small update;
* ``interpreter`` starts ``interpretation_process``, which reads a document with pycrdt;
* ``task`` runs one task in a process, ``version_process`` makes and restores versions;
* ``json_export`` converts a pycrdt document to JSON;
* ``limits`` and ``messages`` are shared by all processes.
"""
