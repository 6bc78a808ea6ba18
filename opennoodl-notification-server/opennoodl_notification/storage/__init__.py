"""The stores: a JSON file, or a database."""
