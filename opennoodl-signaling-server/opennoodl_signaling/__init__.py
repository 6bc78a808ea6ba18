"""OpenNoodl's signaling server: helps editors find each other for WebRTC."""


def __getattr__(name: str) -> str:
    """Return `__version__` when it is first asked for: a process that does without starts 40 ms sooner."""
    if name == "__version__":
        from importlib.metadata import version

        return version("opennoodl-signaling-server")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
