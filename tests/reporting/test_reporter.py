import gc
import threading
import weakref

import numpy as np
import pytest

from distrain.config import using_config
from distrain.errors import ArgumentError
from distrain.reporting import Detached, Reporter, get_current_reporter, report, report_scope


class Model:
    def __init__(self, **children):
        self.children = children

    def namedlinks(self):
        yield "/", self
        for name, child in self.children.items():
            yield f"/{name}", child


class Graph:
    """A Variable, as far as a reporter can tell."""

    def __init__(self, array, creator=None):
        self.array = array
        self.creator = creator


def fail_in(context, values):
    with context:
        report(values)
        raise ZeroDivisionError


def test_values_carry_the_name_of_their_observer():
    model = Model(predictor=Model())
    reporter = Reporter()
    reporter.add_observers("main", model.namedlinks())
    with reporter:
        report({"loss": 1.0}, model)
        report({"loss": 2.0}, model.children["predictor"])
        report({"lr": 3.0})
    assert reporter.observation == {"main/loss": 1.0, "main/predictor/loss": 2.0, "lr": 3.0}


def test_without_a_reporter_nothing_happens():
    report({"loss": 1.0}, object())
    with pytest.raises(ArgumentError, match="no current reporter"):
        get_current_reporter()
    with pytest.raises(ArgumentError, match="no current reporter"), report_scope({}):
        pass


def test_an_unknown_observer_is_refused_with_the_known_ones():
    reporter = Reporter()
    message = r"a Model reported 'loss', 'accuracy', but is not registered; registered observers: "
    with reporter, pytest.raises(ArgumentError, match=message + "none"):
        report({"loss": 1, "accuracy": 2}, Model())
    models = [Model(), Model()]
    reporter.add_observer("main", models[0])
    reporter.add_observer("validation", models[1])
    with reporter, pytest.raises(ArgumentError, match=message + r"'main', 'validation'\. Call add_observer"):
        report({"loss": 1, "accuracy": 2}, Model())
    assert reporter.observation == {}


def test_a_renamed_observer_has_the_later_name():
    reporter, model = Reporter(), Model()
    reporter.add_observer("a", model)
    reporter.add_observer("b", model)
    reporter.report({"x": 1}, model)
    assert reporter.observation == {"b/x": 1}


def test_an_observer_lives_as_long_as_its_reporter_so_that_no_other_object_gets_its_identity():
    reporter, model = Reporter(), Model()
    reporter.add_observer("main", model)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is not None
    del reporter
    gc.collect()
    assert alive() is None


def test_scopes_nest_and_end_when_something_raises():
    reporter, outer, inner = Reporter(), {}, {}
    with reporter:
        with reporter.scope(outer):
            report({"x": 1})
            with pytest.raises(ZeroDivisionError):
                fail_in(report_scope(inner), {"x": 2})
            report({"y": 3})
        report({"z": 4})
    assert (outer, inner, reporter.observation) == ({"x": 1, "y": 3}, {"x": 2}, {"z": 4})


def test_the_innermost_reporter_is_current_and_only_in_its_block():
    outer, inner = Reporter(), Reporter()
    with outer:
        with inner:
            assert get_current_reporter() is inner
        with pytest.raises(ZeroDivisionError):
            fail_in(inner, {"x": 1})
        assert get_current_reporter() is outer
    assert (outer.observation, inner.observation) == ({}, {"x": 1})


def test_each_thread_has_its_own_stack():
    seen = []

    def work(number):
        with Reporter() as reporter:
            barrier.wait(10)
            report({"x": number})
            barrier.wait(10)
            seen.append(reporter.observation)

    barrier = threading.Barrier(4)
    with Reporter() as here:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(o["x"] for o in seen) == [0, 1, 2, 3]
    assert here.observation == {}


def test_a_reported_variable_lets_its_graph_go():
    creator = Model()
    gone = weakref.ref(creator)
    reporter = Reporter()
    reporter.report({"loss": Graph(np.array(2.5), creator)})
    del creator
    assert gone() is None
    loss = reporter.observation["loss"]
    assert isinstance(loss, Detached)
    assert float(loss) == 2.5
    assert loss.array == loss.data == 2.5


def test_the_graph_is_kept_when_asked():
    variable = Graph(np.array(2.5))
    reporter = Reporter()
    with using_config("keep_graph_on_report", True):
        reporter.report({"loss": variable})
    assert reporter.observation["loss"] is variable
