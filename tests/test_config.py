from __future__ import annotations

import threading

import numpy as np
import pytest

from distrain.config import (
    LocalConfig,
    config,
    force_backprop_mode,
    global_config,
    no_backprop_mode,
    using_config,
)
from distrain.errors import ArgumentError


def in_thread(read):
    """What `read` returns in a thread that has set nothing."""
    found = []
    thread = threading.Thread(target=lambda: found.append(read()))
    thread.start()
    thread.join(10)
    return found[0]


@pytest.fixture
def debug_back():
    yield
    global_config.debug = False


def test_defaults():
    assert config.train is True
    assert config.enable_backprop is True
    assert config.dtype is np.float32
    assert config.debug is False
    assert config.type_check is True
    assert config.keep_graph_on_report is False


def test_a_thread_sees_its_own_values_and_no_other_does():
    with using_config("train", False):
        assert config.train is False
        assert global_config.train is True
        assert in_thread(lambda: config.train) is True
    assert config.train is True


def test_a_default_changed_later_is_seen_by_threads_that_have_not_set_their_own(debug_back):
    changed, looked = threading.Event(), threading.Event()
    seen = []

    def work():
        seen.append(config.debug)
        looked.set()
        assert changed.wait(10)
        seen.append(config.debug)
        with using_config("debug", False):
            seen.append(config.debug)
        seen.append(config.debug)

    thread = threading.Thread(target=work)
    thread.start()
    assert looked.wait(10)
    with using_config("debug", False):
        global_config.debug = True
        changed.set()
        thread.join(10)
        assert config.debug is False
    assert config.debug is True
    assert seen == [False, True, False, True]


def test_using_config_nests_and_leaves_no_value_behind(debug_back):
    with using_config("debug", True):
        with using_config("debug", False):
            assert config.debug is False
        assert config.debug is True
    assert "debug" not in vars(config)
    global_config.debug = True
    assert config.debug is True


def test_using_config_puts_back_after_an_error():
    with pytest.raises(ZeroDivisionError), using_config("train", False):
        _ = 1 / 0
    assert config.train is True


def test_using_config_takes_another_config():
    other = LocalConfig()
    with using_config("train", False, other):
        assert other.train is False
        assert config.train is True


def test_backprop_modes():
    with no_backprop_mode():
        assert config.enable_backprop is False
        with force_backprop_mode():
            assert config.enable_backprop is True
        assert config.enable_backprop is False
    assert config.enable_backprop is True


def test_unknown_names_are_refused_with_the_known_ones():
    message = "config has no switch 'trian'; the switches are debug, dtype, enable_backprop"
    with pytest.raises(ArgumentError, match=message):
        config.trian = True
    with pytest.raises(ArgumentError, match=message):
        global_config.trian = True
    with pytest.raises(ArgumentError, match=message), using_config("trian", True):
        pass
    for view in (config, global_config):
        with pytest.raises(AttributeError, match=message):
            _ = view.trian
        assert not hasattr(view, "trian")


def test_show():
    with using_config("train", False):
        assert "train                 False" in config.show().splitlines()
    assert global_config.show().splitlines()[0] == "debug                 False"
    assert len(global_config.show().splitlines()) == 6
