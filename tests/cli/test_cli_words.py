"""Words of messages."""

import pytest

from pixelkin.cli.words import counted, did_you_mean


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "frame", "0 frames"),
        (1, "frame", "1 frame"),
        (2, "class", "2 classes"),
        (1, "class", "1 class"),
        (12345, "pixel", "12,345 pixels"),
    ],
)
def test_counted(number, noun, text):
    assert counted(number, noun) == text


def test_did_you_mean():
    assert did_you_mean("trak", ("train", "track")) == "did you mean track? "
    assert did_you_mean("xyz", ("train", "track")) == ""
