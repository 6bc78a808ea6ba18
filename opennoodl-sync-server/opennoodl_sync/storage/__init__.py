"""Storage: where the updates of documents are kept.

* ``interface`` is what every store does, ``memory`` is the store of servers without persistence;
* ``leveldb`` is the store in LevelDB, in y-leveldb's format;
* ``writer`` writes batches, in a thread where they take their time.
"""
