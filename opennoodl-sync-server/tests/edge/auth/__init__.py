"""Tests of `edge/auth`."""
