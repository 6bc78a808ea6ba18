"""Runs the notification server: ``python -m opennoodl_notification``."""

from .edge.service import main
from .server import create
from .settings import Settings

if __name__ == "__main__":
    main(Settings, create)
