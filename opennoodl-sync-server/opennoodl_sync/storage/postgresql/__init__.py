"""The store in PostgreSQL, which several instances share. It needs the extra ``postgresql``.

* ``url`` converts a database URL for the driver;
* ``link`` is one connection to the database, which is opened again when it is lost;
* ``schema`` creates the tables;
* ``lease`` renews this instance's lease, without which other instances may own its rooms;
* ``statements`` has the SQL of the store;
* ``documents`` has the updates of one document, and batches of changes;
* ``store`` combines these;
* ``repair`` copies the readable records of damaged data to a LevelDB.
"""
