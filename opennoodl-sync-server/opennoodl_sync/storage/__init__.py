"""Storage: where the updates of documents are kept.

* ``interface`` is what a store does, and all that rooms know of it;
* ``leveldb`` is the store in LevelDB, in y-leveldb's format;
* ``memory`` is the store of servers without persistence.
"""
