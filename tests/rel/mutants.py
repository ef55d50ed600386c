"""Mutants: every small change of one token that a file of C or Python allows, in order, so that a seed can choose.

Conditions are negated, comparisons and arithmetic swapped, constants moved by one, statements dropped.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

SWAPS = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "+": "-",
    "-": "+",
    "++": "--",
    "+=": "-=",
    "-=": "+=",
    "|=": "&=",
    "true": "false",
    "false": "true",
}
C_TOKEN = re.compile(
    r"/\*.*?\*/|//[^\n]*|^[ \t]*\#(?:\\\n|[^\n])*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|"
    r"\b0[xX][0-9a-fA-F]+\w*|\b\d\w*|\w+|->|\+\+|--|<<=?|>>=?|[<>=!+\-*/%&|^]=|&&|\|\||\S",
    re.S | re.M,
)
OPERAND_ENDS = re.compile(r"[\w)\]]$")
# A statement of one line that only has an effect: an assignment or a call.
C_STATEMENT = re.compile(r"^ +(?:\*?[\w>.\[\]()*-]+ [|&+-]?= .*|\(void\)\w+\(.*|[\w>.-]+\(.*\)|[\w>.-]+(?:\+\+|--));$")
C_RETURN = re.compile(r"^ +return (?!MMSB_OK;)(?:MMSB_\w+|status|NULL|false);$")


@dataclass(frozen=True)
class Mutant:
    """`file` with another text at one place. `name` is stable while the line is."""

    file: str
    start: int
    end: int
    new: str
    name: str

    def apply(self, text: str) -> str:
        """The mutated text."""
        return text[: self.start] + self.new + text[self.end :]


def named(file: str, text: str, start: int, end: int, new: str) -> Mutant:
    """The Mutant that puts `new` at start..end."""
    line = text.count("\n", 0, start)
    begin = text.rfind("\n", 0, start) + 1
    shown = text.splitlines()[line].strip()
    old = " ".join(text[start:end].split())
    return Mutant(file, start, end, new, f"{file}: {shown!r} at {start - begin}: {old!r} -> {' '.join(new.split())!r}")


# ---- C


def of_c(file: str, text: str) -> Iterator[Mutant]:
    """Of a C file."""
    before = ""
    for match in C_TOKEN.finditer(text):
        token, start, end = match[0], match.start(), match.end()
        if token.startswith(("/*", "//", "#")) or token.lstrip().startswith("#"):
            continue
        binary = bool(OPERAND_ENDS.search(before)) and before not in ("return", "case")
        if token in ("+", "-") and not binary:
            pass
        elif token in SWAPS:
            yield named(file, text, start, end, SWAPS[token])
        elif re.fullmatch(r"\d+u?", token):
            yield named(file, text, start, end, str(int(token.rstrip("u")) + 1) + token[len(token.rstrip("u")) :])
        elif token in ("if", "while") and text[end : end + 2] == " (":
            close = closing(text, end + 1)
            yield named(file, text, end + 1, close + 1, f"(!{text[end + 1 : close + 1]})")
        before = token
    at = 0
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\n")
        first = at + len(bare) - len(bare.lstrip())
        if C_STATEMENT.match(bare) and not bare.strip().startswith(("return", "for", "*", "int ", "bool ")):
            if not re.match(r"^ +(?:const )?\w+ \**\w+(?:\[\w*\])? = ", bare):  # what declares is needed to compile
                yield named(file, text, first, at + len(bare), ";")
        elif C_RETURN.match(bare):
            yield named(file, text, first, at + len(bare), ";")
        at += len(line)


def closing(text: str, at: int) -> int:
    """Where the parenthesis that opens at `at` closes."""
    depth = 0
    for place in range(at, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    raise ValueError("a parenthesis does not close")


# ---- Python

OPERATORS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
}


class Finder(ast.NodeVisitor):
    """Collects (start, end, new) of a module."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = [0]
        for line in text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.found: list[tuple[int, int, str]] = []

    def place(self, line: int, column: int) -> int:
        """Offset in the text of what ast calls (line, column in UTF-8)."""
        begin = self.lines[line - 1]
        return begin + len(self.text[begin : self.lines[line]].encode()[:column].decode())

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Where a node stands."""
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.place(node.lineno, node.col_offset), self.place(node.end_lineno, node.end_col_offset)

    def between(self, left: ast.expr, right: ast.expr, operator: ast.AST) -> None:
        """Swaps the operator that stands between two operands."""
        if type(operator) in OPERATORS:
            old, new = OPERATORS[type(operator)]
            at = self.text.index(old, self.span(left)[1], self.span(right)[0])
            self.found.append((at, at + len(old), new))

    def visit_Compare(self, node: ast.Compare) -> None:  # noqa: N802, D102
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self.between(left, right, operator)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:  # noqa: N802, D102
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between(left, right, node.op)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:  # noqa: N802, D102
        self.between(node.left, node.right, node.op)
        self.generic_visit(node)

    def visit_If(self, node: ast.If | ast.While | ast.IfExp) -> None:  # noqa: N802, D102
        start, end = self.span(node.test)
        self.found.append((start, end, f"(not ({self.text[start:end]}))"))
        self.generic_visit(node)

    visit_While = visit_IfExp = visit_If  # noqa: N815

    def visit_Constant(self, node: ast.Constant) -> None:  # noqa: N802, D102
        if type(node.value) in (int, bool):
            new = str(not node.value) if isinstance(node.value, bool) else str(node.value + 1)
            self.found.append((*self.span(node), new))

    def visit_Expr(self, node: ast.Expr) -> None:  # noqa: N802, D102
        if isinstance(node.value, ast.Call):
            self.found.append((*self.span(node), "pass"))
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:  # noqa: N802, D102
        # Its message is for people: only whether it is raised is looked at.
        self.found.append((*self.span(node), "pass"))

    def visit_Assert(self, node: ast.Assert) -> None:  # noqa: N802, D102
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:  # noqa: N802, D102
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802, D102
        if node.value is not None:
            self.visit(node.value)

    def visit_arguments(self, node: ast.arguments) -> None:  # noqa: D102
        for default in [*node.defaults, *filter(None, node.kw_defaults)]:
            self.visit(default)


def of_python(file: str, text: str) -> Iterator[Mutant]:
    """Of a Python file."""
    finder = Finder(text)
    finder.visit(ast.parse(text))
    for start, end, new in finder.found:
        yield named(file, text, start, end, new)


def mutants_of(file: str, text: str) -> list[Mutant]:
    """All of a file, in order of place."""
    found = of_c(file, text) if file.endswith((".c", ".h")) else of_python(file, text)
    ordered = sorted(found, key=lambda mutant: (mutant.start, mutant.end, mutant.new))
    names = Counter(mutant.name for mutant in ordered)
    seen: Counter[str] = Counter()
    for place, mutant in enumerate(ordered):
        if names[mutant.name] > 1:  # the same line stands in the file more than once
            seen[mutant.name] += 1
            ordered[place] = replace(mutant, name=f"{mutant.name} ({seen[mutant.name]})")
    return ordered
