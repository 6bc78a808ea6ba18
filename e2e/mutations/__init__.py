"""Recorded messages of real clients with random changes, the clients that send them, and the observers."""
