"""The rules of docstrings: who takes or returns arrays says of which shape, and nobody says only what it belongs to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("app", "queue", "schemas", "workers")

ARRAY = re.compile(r"\bmx\.array\b|\bNDArray\b|\bnp\.ndarray\b")
BY_NAME = re.compile(r"dict\[str, mx\.array\]")
"""Weights: their shapes are the model's business."""

SHAPE = re.compile(r"\[(?:\.\.\.|[A-Za-z0-9_])[^\[\]\n]*\]")
LETTER = re.compile(r"(?<![A-Za-z0-9_])[A-Z](?![A-Za-z0-9_])")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


class Function(NamedTuple):
    name: str
    docstring: str


def _trees(folder: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def _aliases(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Names that a module gives to types of arrays and to functions of them, with the types and their docstrings."""
    for node, after in pairwise([*tree.body, ast.Pass()]):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            type_ = ast.unparse(node.value)
            if _names_array(type_, set()):
                yield ast.unparse(node.targets[0]), type_, _string(after) or ""


def _string(node: ast.AST) -> str | None:
    """What a string says that stands as a statement."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return None


def _names_array(annotation: str, aliases: set[str]) -> bool:
    annotation = BY_NAME.sub("", annotation)
    return bool(ARRAY.search(annotation)) or not aliases.isdisjoint(re.findall(r"\w+", annotation))


def _public(node: Definition, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions and methods that other modules can reach, with special methods."""
    for child in node.body:
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if child.name.startswith("_") and not child.name.endswith("__"):
            continue
        name = f"{prefix}{child.name}"
        if isinstance(child, ast.ClassDef):
            yield from _public(child, f"{name}.")
        else:
            yield name, child


def _annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    spec = function.args
    every = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
    found = [one.annotation for one in every if one is not None] + [function.returns]
    return " ".join(ast.unparse(one) for one in found if one is not None)


def _of_arrays(trees: list[tuple[str, ast.Module]]) -> list[Function]:
    named = [alias for _, tree in trees for alias in _aliases(tree)]
    # The docstring of a type of functions says the shapes of those who are given one, or give one.
    aliases = {name for name, type_, _ in named if not type_.startswith("Callable")}
    return [
        Function(f"{file}:{name}", ast.get_docstring(function) or "")
        for file, tree in trees
        for name, function in _public(tree, "")
        if _names_array(_annotations(function), aliases)
    ]


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Those of modules, classes, functions and attributes."""
    yield from (text for node in ast.walk(tree) if (text := _string(node)) is not None)


def test_functions_of_arrays_say_their_shapes() -> None:
    functions = _of_arrays(list(_trees("workers")))
    assert len(functions) > 70
    assert [one.name for one in functions if not SHAPE.search(one.docstring)] == []


def test_names_of_types_of_arrays_say_their_shapes() -> None:
    aliases = [(file, *alias) for file, tree in _trees("workers") for alias in _aliases(tree)]
    assert len(aliases) > 10
    assert [f"{file}:{name}" for file, name, _, docstring in aliases if not SHAPE.search(docstring)] == []


def test_letters_in_shapes_are_explained() -> None:
    explained = ast.get_docstring(ast.parse((ROOT / "workers/engine/__init__.py").read_text(encoding="utf-8"))) or ""
    known = set(LETTER.findall(explained))
    unknown = {
        f"{one.name}: {letter}"
        for one in _of_arrays(list(_trees("workers")))
        for shape in SHAPE.findall(one.docstring)
        for letter in set(LETTER.findall(shape)) - known
    }
    assert sorted(unknown) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_docstring_says_only_what_it_is_a_part_of(folder: str) -> None:
    wrong = [file for file, tree in _trees(folder) for text in _docstrings(tree) if "Part of the" in text]
    assert wrong == []


def test_a_function_of_arrays_without_a_shape_is_found() -> None:
    code = (
        "Ids = npt.NDArray[np.int32]\n"
        "Compute = Callable[[Ids], mx.array]\n"
        "def plain(a: mx.array) -> int:\n    '''Nothing.'''\n"
        "def named(ids: Ids) -> int:\n    '''Of [T] ids.'''\n"
        "def given(compute: Compute) -> None: ...\n"
        "def weights(a: dict[str, mx.array]) -> int: ...\n"
        "class Model:\n"
        "    def __call__(self, a: list[mx.array]) -> int: ...\n"
        "    def _own(self, a: mx.array) -> int: ...\n"
    )
    found = _of_arrays([("file.py", ast.parse(code))])
    assert [(one.name, bool(SHAPE.search(one.docstring))) for one in found] == [
        ("file.py:plain", False),
        ("file.py:named", True),
        ("file.py:Model.__call__", False),
    ]
