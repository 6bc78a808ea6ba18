"""Runs the signaling server: ``python -m opennoodl_signaling``."""

from .edge.service import main
from .server import create
from .settings import Settings

if __name__ == "__main__":
    main(Settings, create)
