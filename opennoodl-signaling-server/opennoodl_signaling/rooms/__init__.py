"""Rooms: the rules of the editor's dialect of signaling. Knows no socket."""
