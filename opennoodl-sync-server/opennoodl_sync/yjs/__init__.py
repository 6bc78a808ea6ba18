"""The sync engine: it stores and forwards Yjs documents as bytes and does not interpret their contents.

The modules correspond to the sources of yjs 13:

* ``lib0`` and ``contents``: numbers, texts and values in lib0's encoding;
* ``structs``: one struct of an update (yjs ``structs/*.js``);
* ``update``: a whole update (yjs ``utils/encoding.js`` and ``utils/updates.js``);
* ``delete_set`` and ``state_vector`` (yjs ``utils/DeleteSet.js`` and the state vectors of ``utils/encoding.js``);
* ``segment``: an update with an index; a document consists of segments;
* ``segment_index``: the encoded index, which is stored beside the update;
* ``document``: one document (yjs ``Doc`` and ``StructStore``);
* ``division``: the parts in which a document is compacted;
* ``compaction``: merges structs and collects garbage, like yjs after a transaction;
* ``tree``: the order of elements (yjs ``Item.integrate``), and ``restore``: restores a version.

Functions whose cost a client can choose are generators. They yield often, so that the caller can do other work.
"""
