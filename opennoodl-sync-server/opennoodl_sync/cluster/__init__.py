"""Several instances on one database: an instance forwards connections for rooms of another instance to that one.

* ``signature`` signs the header of a forwarded connection, which has the client's address;
* ``relay`` forwards the messages of one connection;
* ``peers`` opens relays, and closes those to instances without a lease.
"""
