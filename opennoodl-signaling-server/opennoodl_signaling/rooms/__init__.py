"""Rooms: the editor's dialect of signaling. Knows no socket."""
