"""Tests of `edge/websocket`."""
