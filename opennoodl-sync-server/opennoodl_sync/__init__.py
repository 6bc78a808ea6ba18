"""OpenNoodl's sync server."""

from importlib.metadata import version

__version__ = version("opennoodl-sync-server")
