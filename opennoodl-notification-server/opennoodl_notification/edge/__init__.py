"""The edge: everything between the network and the domain, one text in all three servers.

Settings from the environment, the connection, HTTP on the same port, limits, metrics, logs, and the
life cycle from start to drain. The three servers hold identical copies of this folder, because each of
them builds and deploys alone; a test at the root of the project fails when the copies differ.
"""
