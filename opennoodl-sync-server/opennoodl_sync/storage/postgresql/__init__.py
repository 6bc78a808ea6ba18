"""The store in PostgreSQL, which several instances share. It needs the extra ``postgresql``.

* ``url`` reads a database URL for the driver;
* ``link`` is one connection to the database, opened again when it is lost;
* ``schema`` makes the tables;
* ``lease`` keeps this instance's row, without which its rooms are free to others;
* ``statements`` has the SQL of the store;
* ``documents`` are the updates of one document, and batches of changes;
* ``store`` puts these together;
* ``repair`` writes what can be read of damaged data into a LevelDB.
"""
