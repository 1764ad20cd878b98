import pytest

from distrain.iterators import Iterator


class Once(Iterator):
    epoch = 0
    is_new_epoch = False
    epoch_detail = 0.0
    previous_epoch_detail = None

    def __init__(self):
        self.finalized = 0
        self.left = [3, 2, 1]

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop()

    def finalize(self):
        self.finalized += 1

    def serialize(self, serializer):
        pass


def test_next_and_iteration():
    iterator = Once()
    assert iterator.next() == 1
    assert list(iterator) == [2, 3]
    with pytest.raises(StopIteration):
        iterator.next()


def test_a_with_block_finalizes():
    with pytest.raises(KeyError), Once() as iterator:
        raise KeyError
    assert iterator.finalized == 1


def test_reset_is_optional():
    with pytest.raises(NotImplementedError, match="Once"):
        Once().reset()


def test_the_role_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Iterator()
