"""Tests of `edge/http`."""
