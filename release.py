"""Checks that a release is complete: ``make release-check``. CONTRIBUTING.md lists the steps of a release.

``make changelogs`` writes the changelog of each server, which is its part of that of the repository.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

SERVERS = ("signaling", "sync", "notification")
HEADING = re.compile(r"^## (\S+) \((.+)\)$", re.MULTILINE)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def faults(root: Path) -> Iterator[str]:
    """Yield what a release of this tree still lacks, as sentences."""
    versions = {}
    for name in SERVERS:
        project = tomllib.loads((root / f"opennoodl-{name}-server" / "pyproject.toml").read_text())["project"]
        versions[name] = project["version"]
    if len(set(versions.values())) > 1:
        yield f"The versions differ: {', '.join(f'{name} {version}' for name, version in versions.items())}."
        return
    version = versions["sync"]
    found = HEADING.search((root / "CHANGELOG.md").read_text())
    if found is None or found[1] != version:
        yield f"CHANGELOG.md begins with {found[1] if found else 'no version'} and not with {version}."
    elif not DATE.fullmatch(found[2]):
        yield f"CHANGELOG.md has {found[2]!r} and not the date of {version}."
    if any(not path.exists() or path.read_text() != text for path, text in changelogs(root).items()):
        yield "A server's CHANGELOG.md is not its part of that of the repository: run `make changelogs`."
    if git(root, "tag", "--list", f"v{version}"):
        yield f"The tag v{version} exists already: raise the versions."
    if git(root, "status", "--porcelain"):
        yield "There are changes that are not committed."


def changelog(text: str, server: str) -> str:
    """Return the part of the repository's changelog that is about one server."""
    own = ("### All servers\n", f"### {server.capitalize()}\n")
    parts = re.split(r"^(?=###? )", text, flags=re.MULTILINE)
    return "".join(part for part in parts if not part.startswith("### ") or part.startswith(own)).rstrip() + "\n"


def changelogs(root: Path) -> dict[Path, str]:
    """Return what the changelog of each server has to be."""
    text = (root / "CHANGELOG.md").read_text()
    return {root / f"opennoodl-{name}-server" / "CHANGELOG.md": changelog(text, name) for name in SERVERS}


def git(root: Path, *arguments: str) -> str:
    """Return what git says."""
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    """Print what is missing, and exit with 1 if anything is; or write the changelogs if that is asked for."""
    root = Path(__file__).parent
    if sys.argv[1:] == ["changelogs"]:
        for path, text in changelogs(root).items():
            path.write_text(text)
        return
    found = list(faults(root))
    print("\n".join(found) or "This tree can be released.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
