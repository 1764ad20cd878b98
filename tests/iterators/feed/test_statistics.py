from distrain.iterators.feed.statistics import Statistics


def test_nothing_yet():
    assert Statistics().as_dict() == {
        **{name: 0 for name in ("minibatches", "samples", "respawns", "refused", "spilled", "stragglers")},
        **{name: 0 for name in ("joined", "lost")},
        **{name: 0.0 for name in ("wait_s", "last_wait_s")},
        **{name: [] for name in ("samples_per_feeder_second", "slowest_samples", "deaths", "refusals")},
    }


def test_waits():
    statistics = Statistics()
    statistics.note_wait(0.5)
    statistics.note_wait(0.25)
    found = statistics.as_dict()
    assert (found["minibatches"], found["wait_s"], found["last_wait_s"]) == (2, 0.75, 0.25)


def test_rates_are_those_of_each_feeder():
    statistics = Statistics()
    statistics.note_done(b"a", 10, 2.0, 0.5, 1)
    statistics.note_done(b"b", 30, 1.0, 0.1, 2)
    statistics.note_done(b"a", 10, 3.0, 0.1, 3)
    statistics.note_done(b"c", 1, 0.0, 0.0, 4)  # too fast for the clock
    found = statistics.as_dict()
    assert found["samples"] == 51
    assert found["samples_per_feeder_second"] == [4.0, 30.0]


def test_the_slowest_samples_are_kept():
    statistics = Statistics()
    for index in range(100):
        seconds = (index * 37 % 100) / 100
        statistics.note_done(b"a", 1, seconds, seconds, index)
    slowest = statistics.as_dict()["slowest_samples"]
    assert [seconds for _, seconds in slowest] == [0.99, 0.98, 0.97, 0.96, 0.95]
    assert all((index * 37 % 100) / 100 == seconds for index, seconds in slowest)


def test_of_deaths_and_refusals_all_are_counted_and_the_last_are_kept():
    statistics = Statistics()
    for i in range(100):
        statistics.note_respawn(i % 3, 1000 + i, "SIGKILL")
        statistics.note_refused(f"reason {i}")
    found = statistics.as_dict()
    assert (found["respawns"], found["refused"]) == (100, 100)
    assert found["deaths"] == [f"feeder {i % 3} (pid {1000 + i}): SIGKILL" for i in range(80, 100)]
    assert found["refusals"] == [f"reason {i}" for i in range(80, 100)]
