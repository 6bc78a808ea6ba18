"""Tests of the package as a whole: its documents and its imports. One text in the three servers, as in `edge`."""
