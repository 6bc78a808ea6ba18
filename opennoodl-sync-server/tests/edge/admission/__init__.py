"""Tests of `edge/admission`."""
