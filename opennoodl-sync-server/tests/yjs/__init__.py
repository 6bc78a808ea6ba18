"""Tests of the sync engine, in files that mirror it."""
