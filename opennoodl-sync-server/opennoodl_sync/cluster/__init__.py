"""Several instances on one database: a connection for a room of another instance is passed on to that one.

* ``signature`` proves to an instance that another one passes a connection on, and for which address;
* ``relay`` passes the messages of one connection on;
* ``peers`` opens relays, and closes those to instances that are gone.
"""
