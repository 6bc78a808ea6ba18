"""The store in LevelDB, in the format of npm's y-leveldb.

An operator of y-websocket can set ``PERSIST_DIR`` to its directory, and can also go back.
The records of a document (``keys`` encodes their keys):

* ``['v1', doc, 'update', n]``: a Yjs update, format 1; a document is the merge of all of them. Their numbers
  have no gaps;
* ``['v1_sv', doc]``: varuint clock, state vector. It adds the document to the list of documents. Readers use it only if
  its clock is the last update's ``n``. Every document with updates has one;
* ``['v1', doc, 'meta', 'opennoodl-index']``: our index of a large update, see ``yjs.segment_index``;
* ``['v1', doc, 'meta', key]``: metadata of other programs, which is not changed;
* ``['v1', doc, 'history', time]`` and ``['v1', doc, 'version', time]``: our versions of the document, the first with
  size and number, the second with the content. y-leveldb reads neither, and deletes both with the document.
* ``['v1', doc, 'closed']``: an operator has closed the room. y-leveldb ignores it, and deletes it with the document.

A checksum follows each update and each state vector, at a place that y-leveldb does not read (``record_format``).

* ``store`` is the store: it has threads to read and to write (``writer``), and syncs once a second
  (``background_sync``);
* ``database`` is the open directory, ``documents`` the updates of one document in it, ``versions`` its versions;
* ``files``, ``log`` and ``table`` read LevelDB's own files, and check them before LevelDB opens them;
* ``repair`` copies the readable records of a damaged directory to a new one.

Source of the format: y-leveldb 0.1.2, ``src/y-leveldb.js``.
"""
