"""Messages of real clients, recorded and changed at random, those who send them, and those who see what comes of it."""
