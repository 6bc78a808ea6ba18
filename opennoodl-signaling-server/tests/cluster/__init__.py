"""Tests of several instances on one Redis."""
