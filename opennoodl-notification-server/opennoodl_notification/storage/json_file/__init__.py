"""The store in a JSON file with a journal beside it."""
