"""Tests of ``opennoodl_sync/storage``."""
