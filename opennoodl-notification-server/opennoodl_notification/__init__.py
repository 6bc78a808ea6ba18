"""OpenNoodl's notification server."""

from importlib.metadata import version

__version__ = version("opennoodl-notification-server")
