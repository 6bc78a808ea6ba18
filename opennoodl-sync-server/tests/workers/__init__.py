"""Tests of the worker processes, in files that mirror them."""
