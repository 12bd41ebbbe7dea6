"""VNN-LIB 1.0, the subset of SMT-LIB that VNN-COMP used until 2024.

One pass over the tokens with a stack of open forms: nesting has no limit, and each form is reduced when it closes.
"""

from __future__ import annotations

import re
from itertools import islice

from arfj.errors import PropertyError
from arfj.verify.property import Property
from arfj.verify.vnnlib.cases import assemble
from arfj.verify.vnnlib.exact import Refused, shown
from arfj.verify.vnnlib.terms import Formula, Item, Terms

# A comment matches without its group, so that findall gives "" for it; a lone quote is a token, to be refused.
_TOKEN = re.compile(r""";[^\n]*|([()]|"[^"]*"|\|[^|]*\||[^\s();"|]+|["|])""")
_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d{0,8})", re.ASCII)
_SETTINGS = frozenset(("set-logic", "set-info", "set-option"))
_QUESTIONS = frozenset(("check-sat", "get-model", "exit"))
_COMMANDS = frozenset(("assert", "declare-const", "declare-fun")) | _SETTINGS | _QUESTIONS


def parse_version1(text: str, name: str) -> Property:
    """The property that a VNN-LIB 1.0 text asserts; `name` stands in errors.

    Raises:
        PropertyError: with the line, what was expected and how to mend it.
    """
    script = _Script()
    try:
        script.read(_TOKEN.findall(text))
    except Refused as refused:
        raise PropertyError(f"{name}, line {_line(text, script.place)}: {refused}") from None
    try:
        return script.finish()
    except Refused as refused:
        raise PropertyError(f"{name}: {refused}") from None


def _line(text: str, place: int) -> int:
    # Only an error asks for lines, so the tokens are counted again instead of carrying their positions along.
    match = next(islice(_TOKEN.finditer(text), place, None))
    return text.count("\n", 0, match.start()) + 1


class _Script:
    """The commands of a file, in their order.

    Attributes:
        place: the token that an error is about.
    """

    def __init__(self) -> None:
        self.place = 0
        self._terms = Terms()
        self._counts = {"X": 0, "Y": 0}
        self._assertions: list[Formula] = []
        self._asked = False

    def read(self, tokens: list[str]) -> None:
        """Carry out all commands.

        Raises:
            Refused: the form that starts at `place` cannot be read.
        """
        forms: list[list[Item]] = []
        starts: list[int] = []
        for position, word in enumerate(tokens):
            if word == "(":
                forms.append([])
                starts.append(position)
            elif word == ")":
                self.place = starts.pop() if starts else position
                self._close(forms)
            elif word:
                if not forms:
                    self.place = position
                    raise Refused(f"{shown(word)} stands outside of any form; expected (assert ...)")
                forms[-1].append(word)
        if forms:
            self.place = starts[-1]
            raise Refused("this parenthesis is never closed; close it, or write the file again if it is cut off")

    def _close(self, forms: list[list[Item]]) -> None:
        if not forms:
            raise Refused("this parenthesis closes nothing; remove it, or open one before it")
        form = forms.pop()
        if not forms:
            self._command(form)
        elif form and isinstance(form[0], str) and form[0] in _COMMANDS:
            raise Refused(f"{form[0]} stands inside another form; close the parenthesis before it")
        else:
            forms[-1].append(self._terms.reduce(form) if form else None)

    def _command(self, form: list[Item]) -> None:
        match form:
            case ["assert" | "declare-const" | "declare-fun", *_] if self._asked:
                raise Refused(f"{form[0]} stands behind check-sat or exit; expected these at the end of the file")
            case ["assert", list() as formula]:
                self._assertions.append(formula)
            case ["declare-const", str() as variable, "Real"] | ["declare-fun", str() as variable, None, "Real"]:
                self._declare(variable)
            case ["declare-const", str() as variable, sort] | ["declare-fun", str() as variable, None, sort]:
                raise Refused(f"{shown(variable)} is of the sort {shown(str(sort))}; only Real is supported")
            case ["assert", *_]:
                raise Refused("assert has no formula, or more than one; expected one such as (assert (<= X_0 0.5))")
            case [str() as word, *_] if word in _QUESTIONS:
                self._asked = True
            case [str() as word, *_] if word in _SETTINGS:
                pass
            case _:
                raise Refused("this is no command of VNN-LIB 1.0; expected (declare-const X_0 Real) or (assert ...)")

    def _declare(self, name: str) -> None:
        match = _VARIABLE.fullmatch(name)
        if match is None:
            raise Refused(f"{shown(name)} is neither an input X_0, X_1, ... nor an output Y_0, Y_1, ...; rename it")
        if name in self._terms.variables:
            raise Refused(f"{shown(name)} is declared twice; declare each variable once")
        index = int(match.group(2))
        self._terms.variables[name] = index if match.group(1) == "X" else -1 - index
        self._counts[match.group(1)] += 1

    def finish(self) -> Property:
        """The property of all assertions.

        Raises:
            Refused: variables that are not numbered from 0 without gaps, or as `assemble`.
        """
        for letter, count in self._counts.items():
            if not count:
                raise Refused(f"no {letter}_0 is declared; expected inputs X_0, X_1, ... and outputs Y_0, Y_1, ...")
            # `count` different numbers from 0 on have no gap exactly if all are below it.
            for i in range(count):
                if f"{letter}_{i}" not in self._terms.variables:
                    raise Refused(f"{letter}_{i} is not declared, but higher ones are; declare all from {letter}_0 on")
        if not self._assertions:
            raise Refused("nothing is asserted; expected (assert ...) with bounds on the inputs and unsafe outputs")
        return assemble(self._counts["X"], self._counts["Y"], self._assertions)
