"""Admission: TCP connections, TLS and the checks of address and origin, up to the handshake."""
