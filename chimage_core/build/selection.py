"""Which files of a tree the words of COPY select, `--parents` and `--exclude` considered."""

import os
from typing import NamedTuple

from chimage_core.build.context import Source, SourceTree
from chimage_core.errors import ContextError

_PIVOT = "/./"


class Selection(NamedTuple):
    """Sources as an instruction names them."""

    patterns: tuple[str, ...]
    keeps_parents: bool = False
    """The directories in front of a source are copied, too: those behind `/./`, if that is in the pattern."""
    excludes: tuple[str, ...] = ()
    """Rules as in `.dockerignore`. Paths count from the source; with `keeps_parents`, from where the copy begins."""

    def find(self, tree: SourceTree) -> list[Source]:
        """Return the sources. Raises ContextError where there is nothing, or nothing is left, FileError."""
        found = [source for pattern in self.patterns for source in self._matching(tree, pattern)]
        return self._filtered(found) if self.excludes else found

    def _matching(self, tree: SourceTree, pattern: str) -> list[Source]:
        if not self.keeps_parents:
            return tree.find(pattern)
        before, pivot, _ = pattern.partition(_PIVOT)
        depth = 0
        if pivot:
            if "**" in before.split("/"):
                raise ContextError(f"“**” may not be before “{_PIVOT}”: {pattern}")
            depth = len([part for part in os.path.normpath(before.lstrip("/") or ".").split("/") if part != "."])
        return [
            source._replace(parents=tree.directories(source, depth)) for source in tree.find(pattern, any_depth=True)
        ]

    def _filtered(self, found: list[Source]) -> list[Source]:
        from chimage_core.build.ignore import Sieve, from_patterns

        rules = from_patterns(self.excludes, "--exclude")
        kept, told = [], ""
        for source in found:
            is_directory = os.path.isdir(source.path)
            names = [name for name, _ in source.parents]
            path = "/".join(names if is_directory else [*names, os.path.basename(source.name)]) or "."
            place = rules.at(path)
            source = source._replace(rules=(*source.rules, (rules, path)))
            if rules.excludes(place) and (not is_directory or Sieve(source.path, source.rules).is_empty()):
                told = told or rules.told(place)
            else:
                kept.append(source)
        if not kept:
            raise ContextError(f"nothing to copy, all sources are excluded by {told}")
        return kept
