"""Storage: stores for the updates of documents.

* ``interface`` defines a store, and is the only module of storage that rooms use;
* ``leveldb`` is the store in LevelDB, in y-leveldb's format;
* ``postgresql`` is the store in PostgreSQL, which several instances can share;
* ``memory`` is the store of servers without persistence.
"""
