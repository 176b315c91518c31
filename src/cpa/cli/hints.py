"""Which command is meant by the names that other programs have for one."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, ClassVar

from typer.core import TyperGroup


class Hinting(TyperGroup):
    """Says which command is meant by an unknown name in `meant`, also with a typing error in it."""

    meant: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name not in self.commands and (name in self.meant or not get_close_matches(name, self.commands)):
            for near in get_close_matches(name, self.meant, n=1):
                ctx.fail(f"No such command '{name}'. Did you mean 'cpa {self.meant[near]}'?")
        return super().resolve_command(ctx, args)
