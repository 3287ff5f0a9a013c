"""The groups of rows, and where each is measured."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bench.child import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.measure import Row
    from bench.settings import Settings

# What README shows. Memory comes first: some of what follows makes this process bigger, see `child.Cost`.
PROMISED = {
    "memory": "bench.memory:memory",
    "storage": "bench.storage:storage",
    "start": "bench.startup:start",
    "restart": "bench.restart:restart",
    "noop": "bench.startup:noop",
    "cold": "bench.cold:cold",
    "training": "bench.training:slowed",
    "warm": "bench.warm:warm",
}
ORDER = ("cold", "warm", "restart", "noop", "start", "training", "memory", "storage")  # as people ask
MORE = {
    "shards": "bench.memory:shards",
    "card": "bench.card:card",
    "check": "bench.checking:check",
    "calls": "bench.calls:calls",
    "pods": "bench.pods:pods",
    "rollback": "bench.operate:rollback",
    "history": "bench.operate:history",
}


def choose(words: Sequence[str]) -> list[str]:
    """The groups somebody named, in the order in which they are measured.

    Raises:
        BenchError: one of them is none.
    """
    everything = PROMISED | MORE
    named = set[str]()
    for word in words:
        found = {"promised": PROMISED, "more": MORE, **{name: {name: ""} for name in everything}}.get(word)
        if found is None:
            raise BenchError(f"no such group of rows: {word}; there are {', '.join(everything)}")
        named |= found.keys()
    return [name for name in everything if name in named]


def load(name: str) -> Callable[[Settings], Iterator[Row]]:
    """What measures a group; imported only now, because it makes this process bigger."""
    module, _, function = (PROMISED | MORE)[name].partition(":")
    measure: Callable[[Settings], Iterator[Row]] = getattr(importlib.import_module(module), function)
    return measure
