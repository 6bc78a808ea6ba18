"""Tests of versions, in files that mirror them."""
