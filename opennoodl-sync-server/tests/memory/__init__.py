"""Tests of ``opennoodl_sync/memory``."""
