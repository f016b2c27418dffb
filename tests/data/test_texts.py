import subprocess
import sys

from tests.tiny import Topics
from unlabeled.data.texts import SPECIAL, make_vocabulary


def test_two_processes_make_one_vocabulary():
    """Ranks read the text each for itself, and a run is resumed by another process."""
    text = "from tests.tiny import Topics; print(Topics().spec().mark)"
    other = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert int(other.stdout) == Topics().spec().mark


def test_a_vocabulary_has_the_special_tokens_letters_and_frequent_words():
    vocabulary = make_vocabulary(["the cat the hat the mat"] * 4, size=40)
    assert vocabulary[:5] == SPECIAL
    assert {"##a", "##t", "t", "the"} <= set(vocabulary)
    assert len(set(vocabulary)) == len(vocabulary) <= 40
