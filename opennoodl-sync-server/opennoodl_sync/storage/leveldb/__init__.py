"""The store in LevelDB, in the format of npm's y-leveldb.

A community that ran y-websocket points ``PERSIST_DIR`` at its directory, and can go back.
The records of a document (``keys`` encodes their keys):

* ``['v1', doc, 'update', n]``: a Yjs update, format 1; a document is the merge of all of them. Their numbers
  have no gaps;
* ``['v1_sv', doc]``: varuint clock, state vector. It makes the document listed, and is trusted by readers
  only if its clock is the last update's ``n``; there is one for every document with updates;
* ``['v1', doc, 'meta', 'opennoodl-index']``: our index of a large update, see ``yjs.segment_index``;
* ``['v1', doc, 'meta', key]``: metadata of other programs, left alone;
* ``['v1', doc, 'history', time]`` and ``['v1', doc, 'version', time]``: our versions of the document, the first with
  size and number, the second with the content. y-leveldb reads neither, and deletes both with the document.
* ``['v1', doc, 'closed']``: an operator has closed the room. y-leveldb ignores it, and deletes it with the document.

Behind the end of an update and of a state vector, where y-leveldb does not read, stands a checksum (``record_format``).

* ``store`` is the store: it has threads to read and to write (``writer``), and syncs once a second
  (``background_sync``);
* ``database`` is the open directory, ``documents`` the updates of one document in it, ``versions`` its versions;
* ``files``, ``log`` and ``table`` know LevelDB's own files: what must be there before LevelDB opens them;
* ``repair`` writes what can be read of a damaged directory into a new one.

Source of the format: y-leveldb 0.1.2, ``src/y-leveldb.js``.
"""
