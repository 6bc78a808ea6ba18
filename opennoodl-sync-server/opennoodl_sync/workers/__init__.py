"""Worker processes: work that takes long, or at which a library may fail, runs there, within limits.

* ``compactor`` starts ``compaction_process``, which makes one small update of those of a document;
* ``interpreter`` starts ``interpretation_process``, which asks pycrdt for what a document means;
* ``task`` runs one task in a process, ``version_process`` makes and restores versions;
* ``json_export`` shows a pycrdt document as JSON;
* ``limits`` and ``messages`` are what they share.
"""
