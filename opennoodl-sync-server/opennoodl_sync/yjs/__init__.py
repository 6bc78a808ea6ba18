"""The sync engine: it carries Yjs documents as bytes and does not interpret their contents.

The modules follow the sources of yjs 13, so that a reader of one finds the other:

* ``lib0`` and ``contents``: numbers, texts and values in lib0's encoding;
* ``structs``: one struct of an update (yjs ``structs/*.js``);
* ``update``: a whole update (yjs ``utils/encoding.js`` and ``utils/updates.js``);
* ``delete_set`` and ``state_vector`` (yjs ``utils/DeleteSet.js`` and the state vectors of ``utils/encoding.js``);
* ``segment``: an update with an index, of which a document is made;
* ``segment_index``: that index as bytes, to be stored beside the update;
* ``document``: what yjs keeps in ``Doc`` and ``StructStore``;
* ``compaction``: what yjs does when it merges structs and collects garbage;
* ``tree``: the order of elements (yjs ``Item.integrate``), and ``restore``: a document as it was.

Everything whose cost a client can choose is a generator: it yields often, so that its caller can do something else.
"""
