"""WebSocket: the connection after its handshake (RFC 6455)."""
