"""OpenNoodl's signaling server: helps editors find each other for WebRTC."""

from importlib.metadata import version

__version__ = version("opennoodl-signaling-server")
