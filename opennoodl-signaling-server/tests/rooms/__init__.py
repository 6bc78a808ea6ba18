"""Tests of ``opennoodl_signaling/rooms``."""
