import torch

from unlabeled.data.spoken import CONTROL, PHONES, Spoken, lexicon

DATA = Spoken(train=40, test=20, seconds=1.0, speakers=4, words=8)


def test_words_are_their_phones_in_order():
    words = lexicon(8)
    made = DATA.split("train").made
    for phone, word in zip(made.phone, made.word, strict=True):
        whole = torch.unique_consecutive(torch.stack([word, phone]), dim=1).T.tolist()
        inside = [pair for pair in whole[:-5] if pair[0]]  # the last word may be cut
        for number, each in inside:
            assert each in words[number - 1]
    assert (made.word == 0).equal(made.phone == PHONES.index("pause"))


def test_it_is_the_same_each_time_and_splits_differ():
    from unlabeled.data import spoken

    first = DATA.split("train").made.wave
    spoken._synthesize.cache_clear()
    assert torch.equal(first, DATA.split("train").made.wave)
    assert not torch.equal(first[:20], DATA.split("test").made.wave)
    assert first.shape == (40, 8000)
    assert first.shape[1] // CONTROL == DATA.split("train").made.phone.shape[1]


def test_pauses_are_silent_and_voices_sound_different():
    made = DATA.split("train").made
    energy = made.wave.float().view(40, -1, CONTROL).square().mean(2)
    quiet = energy[made.phone == 0].median()
    assert quiet < 0.5 * energy[made.phone > 0].median()
    spectrum = DATA.raw(DATA.prepare(DATA.spec())(DATA.split("train").__getitems__(range(40))))
    label = made.speaker
    distance = torch.cdist(spectrum, spectrum)
    same = label[:, None] == label
    off = ~torch.eye(40, dtype=torch.bool)
    assert distance[same & off].mean() < 0.9 * distance[~same].mean()
