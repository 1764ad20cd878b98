"""All benchmarks, one after the other: `python -m benchmarks`."""

from __future__ import annotations

from benchmarks import (
    channel,
    cnn,
    exchange,
    extensions,
    feed,
    feed_remote,
    import_time,
    launch,
    overlap,
    ranks,
    trainer_loop,
)

MODULES = (import_time, launch, trainer_loop, extensions, exchange, overlap, channel, cnn, ranks, feed, feed_remote)
for benchmark in MODULES:
    print(f"\n== {benchmark.__name__}\n{(benchmark.__doc__ or '').splitlines()[0]}", flush=True)
    benchmark.main([])
