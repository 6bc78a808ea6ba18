"""The operator's commands, by subject. Those that need a store work on each one.

* ``stores`` opens the store of the settings, and reads documents of it;
* ``documents`` lists, exports, imports, deletes and compacts documents;
* ``versions`` lists, exports and restores versions;
* ``checks`` finds damage, and writes what can be read of damaged data;
* ``remote`` asks a running server;
* ``copies`` makes backups, puts them back, and copies documents to another store.
"""
