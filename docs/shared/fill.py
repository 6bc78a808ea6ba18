"""Fills the sections that the documents of the three servers share, so that each package stands alone.

A document has ``<!-- shared: NAME -->`` and ``<!-- end -->``; the text between them is that of ``NAME.md`` here.
"""

import re
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECTION = re.compile(r"(<!-- shared: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
VALUES = {
    "signaling": {"port": "4444", "volume": ""},
    "sync": {"port": "4445", "volume": "--volume sync:/data "},
    "notification": {"port": "4446", "volume": "--volume notifications:/data "},
}


def documents(server: str) -> list[Path]:
    """Return the documents of a server."""
    folder = ROOT / f"opennoodl-{server}-server"
    return [folder / "README.md", *sorted((folder / "docs").glob("*.md"))]


def filled(text: str, server: str) -> str:
    """Return a document of a server with the shared sections as they are now."""
    values = {"server": server, "package": f"opennoodl_{server}", **VALUES[server]}

    def section(match: re.Match[str]) -> str:
        content = Template((HERE / f"{match[2]}.md").read_text()).substitute(values)
        return match[1] + content + match[3]

    return SECTION.sub(section, text)


def main() -> None:
    """Fill the documents of all servers."""
    for server in VALUES:
        for document in documents(server):
            document.write_text(filled(document.read_text(), server))


if __name__ == "__main__":
    main()
