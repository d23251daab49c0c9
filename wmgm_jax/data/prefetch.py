"""Work that threads do ahead of its use."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def map_ahead(
    function: Callable[[Any], Any], items: Iterable[Any], *, workers: int, ahead: int
) -> Iterator[Any]:
    """`function(item)` of all items in order, computed by threads.

    Args:
        function: what to compute.
        items: its arguments.
        workers: threads.
        ahead: the most items that are computed ahead of their use.
    """
    pool, pending = ThreadPoolExecutor(workers), deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
