"""Runs the sync server: ``python -m opennoodl_sync``."""

from .edge.service import main
from .server import create
from .settings import Settings

if __name__ == "__main__":
    main(Settings, create)
