"""HTTP on the port of the WebSockets: which handshakes are accepted, and the pages."""
