"""Messages are plain values, bounded before memory is taken; sockets let in whom they should."""

import ctypes
import math
import os
import re
import tracemalloc

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from distrain import wire
from distrain.errors import ArgumentError, WireError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=5),
    max_leaves=20,
)


@given(PLAIN)
def test_what_is_packed_comes_back(value):
    assert wire.unpack(wire.pack(value)) == value


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, np.zeros(2), 2**64, -(2**63) - 1, "\udc80", [print], range(3)])
def test_other_values_are_refused(value):
    with pytest.raises(WireError, match="this cannot be sent"):
        wire.pack(value)


def test_a_loop_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(WireError, match="this cannot be sent"):
        wire.pack(loop)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="a byte that means nothing"),
        pytest.param(b"\x92\x01", id="truncated list"),
        pytest.param(b"\x01\x01", id="more than one value"),
        pytest.param(b"\xa2\xff\xff", id="no utf-8"),
        pytest.param(b"\x81\x90\x01", id="a list as a key"),
        pytest.param(b"\x81\x80\x01", id="a map as a key"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="a list of 4 billion"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="a map of 4 billion"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="4 GB of bytes"),
        pytest.param(b"\xdb\xff\xff\xff\xff", id="4 GB of text"),
        pytest.param(b"\xc9\xff\xff\xff\xff\x01", id="4 GB of another type"),
        pytest.param(b"\xd4\x01\x00", id="another type"),
        pytest.param(b"\xd6\xff\x00\x00\x00\x00", id="a timestamp"),
        pytest.param(b"\xdc\x10\x01" + b"\xc0" * 4097, id="a list of 4097"),
        pytest.param(b"\x91" * 100_000 + b"\xc0", id="nested 100,000 deep"),
        pytest.param(b"\xdc\x10\x00" * 100_000, id="100,000 headers of 4096"),
    ],
)
def test_malformed_messages(data):
    with pytest.raises(WireError, match=f"malformed message of {len(data)} bytes"):
        wire.unpack(data)


@pytest.mark.parametrize("data", [b"\xdc\x10\x00" * 1000, b"\xde\x10\x00" * 1000, b"\xdd\x00\x00\x10\x00" * 100_000])
def test_headers_do_not_make_it_take_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            wire.unpack(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


def test_nothing_is_unpickled():
    pickled = b"cos\nsystem\n(S'exit 3'\ntR."
    with pytest.raises(WireError):
        wire.unpack(pickled)
    assert wire.unpack(msgpack.packb(pickled)) == pickled


KINDS = [
    "|b1",
    "|i1",
    "<i8",
    ">i8",
    "<u2",
    "<f2",
    "<f4",
    ">f8",
    "<c16",
    "|S7",
    "<U3",
    ">U3",
    "<m8[s]",
    "<M8[25s]",
    "<M8",
]


@pytest.mark.parametrize("text", [*KINDS, np.dtype("M8[ns]").str, np.dtype(np.longdouble).str])
def test_dtypes(text):
    assert wire.dtype_of(text).str == text


@pytest.mark.parametrize(
    "text",
    [
        *[
            "O",
            "|O8",
            "V8",
            "|V8",
            "i4,i4",
            "(2,3)f4",
            "f4,O",
            "{}",
            "",
            "f",
            "a5",
            "object",
            "float32",
            "<f8 ",
            "=f8\n",
        ],
        *["<f3", "<f99", "<S999999999", "<U999999999", "<S9999999999", "<M8[x]", "<M8[", "<i٨"],
        *["x" * 1000, 7, None, b"<f4", ["<f4"], True, {}, 1.5],
    ],
)
def test_other_dtypes_are_refused(text):
    with pytest.raises(WireError):
        wire.dtype_of(text)


@given(st.text("<>|=biufcSUmMOV0123456789[]nsma,()", max_size=12))
def test_any_text_is_a_dtype_or_refused(text):
    try:
        dtype = wire.dtype_of(text)
    except WireError:
        return
    assert dtype.kind in "biufcSUmM"
    assert dtype.itemsize <= wire.MAX_FRAME


@pytest.mark.parametrize("value", [[], [0], [3], [2, 3], [0, 5], [7, 0], [1] * 32])
def test_shapes(value):
    shape = wire.shape_of(value, 7)
    assert shape == tuple(value)
    assert np.empty(shape, "u1").size == math.prod(value)


@pytest.mark.parametrize(
    "value",
    [
        *[[8], [2, 4], [-1], [-1, -1], [1] * 33, [True], [1.0], ["1"], [None], [[1]], None, 3, "3", b"", {}, {1: 2}],
        *[[2**63], [2**64 - 1], [0, 2**63], [0, 2**62], [2**32, 2**32, 0], [0, 2**40, 2]],
    ],
)
def test_other_shapes_are_refused(value):
    with pytest.raises(WireError):
        wire.shape_of(value, 7)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [nested(900), "x" * 10_000, b"x" * 10_000, {"a": nested(900)}, 2**64 - 1, None, True])
def test_an_error_shows_little_of_a_message(value):
    assert len(wire.shown(value)) < 200
    for check in (wire.dtype_of, lambda value: wire.shape_of(value, 1)):
        with pytest.raises(WireError) as caught:
            check(wire.unpack(wire.pack(value)))
        assert len(str(caught.value)) < 400


# Sockets


class Net:
    """Sockets of a test, kept until its context ends."""

    def __init__(self):
        self.context = wire.new_context()
        self.sockets = []

    def hub(self):
        self.sockets.append(wire.hub(self.context))
        return self.sockets[-1]

    def spoke(self, identity):
        self.sockets.append(wire.spoke(self.context, identity))
        return self.sockets[-1]


@pytest.fixture
def net():
    net = Net()
    yield net
    net.context.destroy(linger=0)


def received(socket, seconds=10.0):
    assert socket.poll(int(1000 * seconds)), "nothing came"
    return socket.recv_multipart()


def test_a_hub_and_its_spokes(net):
    hub = net.hub()
    address = wire.listen_locally(hub)
    spokes = [net.spoke(name) for name in (b"a", b"b")]
    for name, spoke in zip((b"a", b"b"), spokes, strict=True):
        spoke.connect(address)
        spoke.send_multipart([b"from", name])
    assert sorted(received(hub) for _ in spokes) == [[b"a", b"from", b"a"], [b"b", b"from", b"b"]]
    hub.send_multipart([b"b", b"for b"])
    assert received(spokes[1]) == [b"for b"]
    assert not spokes[0].poll(50)
    with pytest.raises(wire.Unreachable):
        hub.send_multipart([b"c", b"for nobody"])
    with pytest.raises(wire.Again):
        hub.recv(wire.DONT_WAIT)


def test_local_names_cannot_be_guessed_and_leave_no_file(net):
    names = {wire.local_name() for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(rf"ipc://@distrain-{os.getpid()}-[0-9a-f]{{32}}", name) for name in names)
    address = wire.listen_locally(net.hub())
    assert not os.path.exists(address.removeprefix("ipc://"))


def test_a_second_peer_of_one_name_is_not_heard(net):
    hub = net.hub()
    address = wire.listen_locally(hub)
    first, second = net.spoke(b"a"), net.spoke(b"a")
    first.connect(address)
    first.send(b"1")
    assert received(hub) == [b"a", b"1"]
    second.connect(address)
    second.send(b"2")
    assert not hub.poll(200)
    first.send(b"3")
    assert received(hub) == [b"a", b"3"]
    hub.send_multipart([b"a", b"4"])
    assert received(first) == [b"4"]


def test_a_message_that_is_too_large_is_not_let_in(net):
    hub = net.hub()
    address = wire.listen_locally(hub)
    spoke, other = net.spoke(b"large"), net.spoke(b"small")
    spoke.connect(address)
    spoke.send(bytes(wire.MAX_FRAME + 1))
    other.connect(address)
    other.send(b"x")
    assert received(hub) == [b"small", b"x"]
    assert not hub.poll(200)


def test_no_socket_keeps_a_context_from_ending():
    context = wire.new_context()
    spoke = wire.spoke(context, b"a")
    spoke.connect(wire.local_name())  # nobody is there
    spoke.send(b"never")
    context.destroy()
    assert context.closed


OTHER_USER = 12345


def test_another_user_is_not_let_in(net):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    hub = net.hub()
    address = wire.listen_locally(hub)
    pid = os.fork()
    if not pid:  # no Python but what is loaded already
        try:
            ctypes.CDLL(None).setresuid(OTHER_USER, OTHER_USER, OTHER_USER)
            own = zmq.Context()
            line = wire.spoke(own, b"thief")
            line.connect(address)
            line.send(b"let me in")
            line.poll(700)
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not hub.poll(300)
    friend = net.spoke(b"friend")
    friend.connect(address)
    friend.send(b"hello")
    assert received(hub) == [b"friend", b"hello"]


class TestCurve:
    @pytest.fixture
    def server(self, net):
        self.public, self.secret = zmq.curve_keypair()
        self.clients = [zmq.curve_keypair() for _ in range(2)]
        self.authenticator = wire.Authenticator(net.context, [z85.decode(self.clients[0][0])])
        net.sockets.append(self.authenticator.socket)
        hub = net.hub()
        self.endpoint = wire.listen_on_tcp(hub, "tcp://127.0.0.1:0", self.secret, self.public, "test")
        return hub

    def said(self, server, line, seconds):
        """What comes through of a hello, which a line takes once it is let in; the authenticator is asked meanwhile."""
        poller = zmq.Poller()
        poller.register(server, zmq.POLLIN)
        poller.register(self.authenticator.socket, zmq.POLLIN)
        is_sent = False
        for _ in range(int(seconds / 0.05)):
            if not is_sent and line.poll(0, zmq.POLLOUT):
                line.send(b"hello", zmq.NOBLOCK)
                is_sent = True
            ready = dict(poller.poll(50))
            if self.authenticator.socket in ready:
                self.authenticator.answer()
            if server in ready:
                return server.recv_multipart()
        return None

    def test_a_key_on_the_list(self, net, server):
        line = net.spoke(b"friend")
        public, secret = self.clients[0]
        wire.connect_by_tcp(line, self.endpoint, secret, public, self.public)
        assert self.said(server, line, 10) == [b"friend", b"hello"]
        assert self.authenticator.refused == 0

    def test_a_key_that_is_not(self, net, server):
        line = net.spoke(b"stranger")
        public, secret = self.clients[1]
        wire.connect_by_tcp(line, self.endpoint, secret, public, self.public)
        assert self.said(server, line, 0.5) is None
        assert self.authenticator.refused >= 1

    def test_no_key(self, net, server):
        line = net.spoke(b"plain")
        line.connect(self.endpoint)
        assert self.said(server, line, 0.5) is None

    def test_the_wrong_server(self, net, server):
        line = net.spoke(b"misled")
        public, secret = self.clients[0]
        wire.connect_by_tcp(line, self.endpoint, secret, public, zmq.curve_keypair()[0])
        assert self.said(server, line, 0.5) is None


def test_a_port_in_use_is_named_with_what_to_do(net):
    public, secret = zmq.curve_keypair()
    taken = wire.listen_on_tcp(net.hub(), "tcp://127.0.0.1:0", secret, public, "test")
    with pytest.raises(ArgumentError, match=f"cannot listen on {taken}: Address already in use.*Choose another port"):
        wire.listen_on_tcp(net.hub(), taken, secret, public, "test")


@pytest.mark.parametrize("endpoint", ["ipc://x", "127.0.0.1:0", "tcp://no-such-host.invalid:1", "tcp://127.0.0.1:x"])
def test_an_endpoint_that_cannot_be(net, endpoint):
    public, secret = zmq.curve_keypair()
    with pytest.raises(ArgumentError, match="tcp|listen"):
        wire.listen_on_tcp(net.hub(), endpoint, secret, public, "test")
