"""Change the core's machine in many small ways, one at a time, and see whether the core's tests notice.

    python scripts/mutate.py [--workers 2] [--only machine] [--json]

Every change ("mutant") is one edit of the syntax tree of one of `MODULES`: a comparison turned round, a constant
moved, a condition fixed or negated, a statement or an argument left out, a value taken away. It runs in a process
of its own, forked from one that has loaded pytest and the tests' libraries but none of the project, so a mutant
costs little more than the tests that kill it. A mutant is *killed* when a test fails, when the code cannot
be loaded, or when it does not end; otherwise it *survived*.

Survivors that change nothing anybody could see are listed with the reason in `scripts/mutants.txt`, by place and
change; they count as survivors all the same. Output, one line each, then the sum:

    survived  step.py:121 Step.begin: drop argument since=self.time
    argued    retry.py:25 backoff: 60 -> 61  (…)
    score 95.2 % of 512 mutants (488 killed, 24 survived, 9 of them argued) in 210 s

The exit code is 1 below 90 %.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "src" / "cpa" / "core"
MODULES = ("machine", "step", "retry", "people", "reopening", "approval")
TESTS = (
    "test_machine.py",
    "test_step.py",
    "test_people.py",
    "test_reopening.py",
    "test_approval.py",
    "test_retry.py",
    "test_histories.py::test_a_committed_history_leads_to_the_same_bytes",
    "test_simulation.py::test_every_world_comes_to_its_end",
)
"""The fast tests of the core, those that kill soonest first."""
WORLDS = "250"
"""How many of the simulated worlds a mutant has to live through."""
LONGEST = 60
"""Seconds after which a mutant counts as one that does not end."""
LEAST = 90.0
ARGUED = ROOT / "scripts" / "mutants.txt"

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    line: int
    place: str
    """Function or method, dotted."""
    change: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Stays the same while other lines come and go."""
        return f"{self.module}.py {self.place}: {self.change}"

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line} {self.place}: {self.change}"


# -- making mutants ------------------------------------------------------------------------------------------

Edit = tuple[str, ast.AST]
"""What is changed, in words, and what stands there instead; `ast.Pass` for a statement that is left out."""


def edits(node: ast.AST) -> Iterator[Edit]:
    """All changes of this very node, not of those below it."""
    match node:
        case ast.Compare(ops=[operator]):
            for other in COMPARISONS[type(operator)]:
                yield _other(node, ops=[other()])
        case ast.BoolOp(op=operator, values=values):
            yield _other(node, op=ast.Or() if isinstance(operator, ast.And) else ast.And())
            for index, value in enumerate(values):
                rest = [each for at, each in enumerate(values) if at != index]
                yield f"without {_text(value)}", rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield f"without not: {_text(operand)}", operand
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in ARITHMETIC:
            yield _other(node, op=ARITHMETIC[type(operator)]())
        case ast.Constant(value=value):
            yield from _constants(value)
        case ast.If(test=test) | ast.IfExp(test=test):
            for fixed in (True, False):
                yield f"if {_text(test)} -> {fixed}", _with(node, test=ast.Constant(fixed))
        case ast.Call():
            yield from _calls(node)
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield f"return None for {_text(value)}", _with(node, value=ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete():
            yield f"leave out {_text(node)}", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield f"leave out {_text(node)}", ast.Pass()
        case ast.Continue():
            yield "break for continue", ast.Break()
    if isinstance(node, ast.AugAssign):
        yield f"leave out {_text(node)}", ast.Pass()


def _constants(value: object) -> Iterator[Edit]:
    if isinstance(value, bool):
        yield f"{value} -> {not value}", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield f"{value} -> {value + 1}", ast.Constant(value + 1)
    elif isinstance(value, str) and value:
        yield f"{value!r} -> 'XX'", ast.Constant("XX")


def _calls(node: ast.Call) -> Iterator[Edit]:
    """A keyword argument left out, `max` for `min`."""
    for index, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            rest = [each for at, each in enumerate(node.keywords) if at != index]
            yield f"drop argument {keyword.arg}={_text(keyword.value)}", _with(node, keywords=rest)
    swap = {"min": "max", "max": "min"}
    if isinstance(node.func, ast.Name) and node.func.id in swap:
        yield _other(node, func=ast.Name(swap[node.func.id], ast.Load()))


def _with(node: ast.AST, **changed: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in changed.items():
        setattr(other, name, value)
    return other


def _other(node: ast.AST, **changed: object) -> Edit:
    other = _with(node, **changed)
    return f"{_text(node)} -> {_text(other)}", other


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= 90 else f"{text[:87]}..."


def mutants(module: str) -> list[Mutant]:
    """All mutants of one module of the core, in the order of its lines."""
    tree = ast.parse((CORE / f"{module}.py").read_text("utf-8"))
    found: dict[tuple[int, str, str, int], Mutant] = {}
    for path, node, place in _nodes(tree):
        for change, instead in edits(node):
            whole = _replaced(tree, path, instead)
            line = getattr(node, "lineno", 0)
            key = (line, place, change, getattr(node, "col_offset", 0))
            found.setdefault(key, Mutant(module, line, place, change, whole))
    return [found[key] for key in sorted(found)]


Path_ = tuple[tuple[str, int | None], ...]


def _nodes(tree: ast.Module) -> Iterator[tuple[Path_, ast.AST, str]]:
    """Every node that is code, with the way to it and the function it is in."""
    stack: list[tuple[Path_, ast.AST, tuple[str, ...]]] = [((), tree, ())]
    while stack:
        path, node, inside = stack.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            inside = (*inside, node.name)
        yield path, node, ".".join(inside) or "module"
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
                if isinstance(child, ast.AST) and not _silent(child):
                    stack.append(((*path, (name, index)), child, inside))


def _silent(node: ast.AST) -> bool:
    """Docstrings, imports, annotations and `__slots__`: nothing that runs, or nothing that could be noticed."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    slots = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    if slots and isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id == "__slots__"
    return isinstance(node, ast.Import | ast.ImportFrom)


def _replaced(tree: ast.Module, path: Path_, instead: ast.AST) -> ast.Module:
    """The tree with one node exchanged; only what lies on the way is copied."""
    if not path:
        raise ValueError("a module is not a mutant of itself")

    def change(node: ast.AST, rest: Path_) -> ast.AST:
        if not rest:
            return ast.copy_location(instead, node) if hasattr(node, "lineno") else instead
        (name, index), below = rest[0], rest[1:]
        value = getattr(node, name)
        if index is None:
            return _with(node, **{name: change(value, below)})
        return _with(node, **{name: [*value[:index], change(value[index], below), *value[index + 1 :]]})

    whole = change(tree, path)
    assert isinstance(whole, ast.Module)
    return whole


# -- running them --------------------------------------------------------------------------------------------


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutant for its module."""

    def __init__(self, mutant: Mutant | None) -> None:
        self.name = f"cpa.core.{mutant.module}" if mutant else ""
        self.mutant = mutant

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        assert self.mutant is not None
        tree = ast.fix_missing_locations(self.mutant.tree)
        exec(compile(tree, f"{self.mutant.module}.py", "exec"), module.__dict__)


def tested(mutant: Mutant | None) -> int:
    """pytest's exit code with this mutant in place; runs in the child."""
    import pytest

    os.environ["CPA_SIMULATED_WORLDS"] = WORLDS
    sys.meta_path.insert(0, Finder(mutant))
    quiet = ["-q", "-x", "--tb=no", "--no-header", "-p", "no:cacheprovider", "--assert=plain", "-W", "error"]
    plain = ["-c", os.devnull, f"--rootdir={ROOT}", "--import-mode=importlib"]
    return int(pytest.main([*quiet, *plain, *(f"{ROOT}/tests/core/{test}" for test in TESTS)]))


def begin(mutant: Mutant | None) -> int:
    """Test it in a child of its own; the child's number. Its exit code is pytest's."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(LONGEST)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            code = tested(mutant)
        finally:
            os._exit(code)
    return child


def outcomes(chosen: Sequence[Mutant | None], workers: int) -> Iterator[tuple[Mutant | None, bool]]:
    """Each mutant with whether it survived, as they come; at most `workers` at the same time."""
    running: dict[int, Mutant | None] = {}
    waiting = list(reversed(chosen))
    while waiting or running:
        while waiting and len(running) < workers:
            mutant = waiting.pop()
            running[begin(mutant)] = mutant
        child, status = os.wait()
        yield running.pop(child), os.waitstatus_to_exitcode(status) == 0


def argued() -> dict[str, str]:
    """Reasons by mutant's name: a line `name`, then an indented line with the reason."""
    found, name = {}, ""
    for line in ARGUED.read_text("utf-8").splitlines() if ARGUED.exists() else ():
        if line.startswith("    "):
            found[name] = line.strip()
        elif line.strip() and not line.startswith("#"):
            name = line.strip()
    return found


def run(chosen: Sequence[Mutant], workers: int, told: Callable[[str], None]) -> dict[str, int]:
    """Test all of them; how many were killed, survived, are argued for."""
    reasons, counts = argued(), {"mutants": len(chosen), "killed": 0, "survived": 0, "argued": 0}
    for mutant, survived in outcomes(chosen, workers):
        assert mutant is not None
        counts["survived" if survived else "killed"] += 1
        if survived:
            reason = reasons.get(mutant.name)
            counts["argued"] += reason is not None
            told(f"argued    {mutant}  ({reason})" if reason else f"survived  {mutant}")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description="mutation score of the core's machine")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=MODULES, help="one module instead of all")
    parser.add_argument("--json", action="store_true", help="only the sum, as JSON")
    options = parser.parse_args()
    prepare()
    if not all(survived for _, survived in outcomes([None], 1)):
        raise SystemExit("the tests fail without any mutant: mend them first")
    chosen = [mutant for module in MODULES if options.only in (None, module) for mutant in mutants(module)]
    began = time.monotonic()
    counts = run(chosen, options.workers, (lambda _: None) if options.json else _print)
    score = 100 * counts["killed"] / counts["mutants"]
    took = time.monotonic() - began
    if options.json:
        print(json.dumps(counts | {"score": round(score, 1), "seconds": round(took)}))
    else:
        print(
            f"score {score:.1f} % of {counts['mutants']} mutants ({counts['killed']} killed, "
            f"{counts['survived']} survived, {counts['argued']} of them argued) in {took:.0f} s"
        )
    return 0 if score >= LEAST else 1


def prepare() -> None:
    """Load what every child needs, and nothing of the project."""
    for name in ("pytest", "_pytest.assertion.rewrite", "msgspec", "pydantic", "uuid", "random"):
        importlib.import_module(name)
    for folder in (ROOT / "src", ROOT):
        sys.path.insert(0, str(folder))
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.argv[1:] = []


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
