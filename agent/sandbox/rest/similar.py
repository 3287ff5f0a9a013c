"""Which known name was probably meant."""

from collections.abc import Iterable

MIN_SCORE = 0.75


def most_similar(name: str, known: Iterable[str], *, min_score: float = MIN_SCORE) -> str | None:
    """Return the known name that differs least, if it is alike enough: 1 is equal, 0 is all different."""
    scored = [(_score(name.lower(), one.lower()), one) for one in known]
    best = max(scored, key=lambda pair: pair[0], default=(0.0, None))
    return best[1] if best[0] >= min_score else None


def _score(left: str, right: str) -> float:
    longer = max(len(left), len(right))
    return 1 - _distance(left, right) / longer if longer else 0.0


def _distance(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (one != other))
    return row[-1]
