"""`help()` shows the docstrings of the stubs."""

import ast
import inspect
from pathlib import Path

import portknock

STUB = ast.parse(Path(portknock.__file__).with_name("__init__.pyi").read_text())


def described():
    """The objects that the stub describes, as they are at run time, and their docstrings."""
    for node in STUB.body:
        text = ast.get_docstring(node) if isinstance(node, (ast.ClassDef, ast.FunctionDef)) else None
        if text is None:
            continue
        thing = getattr(portknock, node.name)
        if isinstance(node, ast.ClassDef):
            methods = {part.name: ast.get_docstring(part) for part in node.body if isinstance(part, ast.FunctionDef)}
            # The docstring of the class contains its arguments.
            made = methods.pop("__new__", None)
            text += f"\n\n{made}" if made else ""
            for name, method in methods.items():
                if method is not None:
                    yield f"{node.name}.{name}", getattr(thing, name), method
        yield node.name, thing, text


def test_help_shows_the_docstrings_of_the_stubs():
    count = 0
    for name, thing, text in described():
        assert inspect.getdoc(thing) == text, name
        count += 1
    assert count > 40
