"""All benchmarks, one after the other: `python -m benchmarks`."""

from __future__ import annotations

from benchmarks import channel, cnn, exchange, extensions, feed, feed_remote, import_time, launch, ranks, trainer_loop

for benchmark in (import_time, launch, trainer_loop, extensions, exchange, channel, cnn, ranks, feed, feed_remote):
    print(f"\n== {benchmark.__name__}\n{(benchmark.__doc__ or '').splitlines()[0]}", flush=True)
    benchmark.main([])
