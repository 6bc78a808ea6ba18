"""The tree of a document: the order that Yjs gives its elements."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from opennoodl_sync.yjs.tree import Tree
from pycrdt import Text

from ..editor import Editor, merged
from ..raw import item, section, text, update


def shown(tree: Tree) -> str:
    """Return the text of a tree."""
    parts = []
    for element in tree.roots[b"t"].elements():
        struct = element.struct
        written = tree.update[struct.content + 1 : struct.stop].decode()
        if not element.deleted:
            parts.append(written[element.clock - struct.clock : element.end - struct.clock])
    return "".join(parts)


@pytest.mark.parametrize("seed", range(30))
def test_elements_are_in_the_order_of_yrs(seed: int) -> None:
    """Texts that three clients write at once are in the order that yrs gives them."""
    dice = random.Random(seed)  # noqa: S311
    editors = [Editor(number) for number in dice.sample(range(1, 1000), 3)]
    for _ in range(40):
        editor = dice.choice(editors)
        if dice.random() < 0.25:
            editor.take(dice.choice(editors).doc.get_update())
        elif dice.random() < 0.3 and editor.text:
            at = dice.randrange(len(editor.text))
            editor.delete(at, min(at + 1 + dice.randrange(3), len(editor.text)))
        else:
            editor.write(dice.choice("abcde") * dice.randint(1, 4), dice.randint(0, len(editor.text)))
    doc = merged(editor.doc.get_update() for editor in editors)
    assert shown(Tree(doc.get_update())) == str(doc.get("t", type=Text))


def test_the_order_of_sections_does_not_matter() -> None:
    """The order in which clients stand in an update does not matter."""
    sections = [section(client, 0, item(text("xyz"[client - 1]))) for client in (1, 2, 3)]
    assert {shown(Tree(update(*some))) for some in permutations(sections)} == {"xyz"}


def test_an_element_without_predecessors_has_no_place() -> None:
    """It has no place, nor has what follows it."""
    tree = Tree(update(section(2, 0, item(text("b"), origin=(1, 7))), section(1, 0, item(text("a")))))
    assert shown(tree) == "a"
    assert tree.find((2, 0)) is None


def test_elements_that_need_each_other_have_no_place() -> None:
    """Elements that need each other have no place; the rest of the document has."""
    one, two = item(text("b"), origin=(2, 0)), item(text("c"), origin=(1, 0))
    assert shown(Tree(update(section(2, 0, two), section(1, 0, one), section(3, 0, item(text("a")))))) == "a"
