"""Tests of the edge; the three servers hold identical copies of this folder, as they do of the edge itself."""
