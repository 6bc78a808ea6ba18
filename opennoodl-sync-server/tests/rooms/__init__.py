"""Tests of ``opennoodl_sync/rooms``."""
