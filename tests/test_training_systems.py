"""How the shipped adapters are made: phrases and their shifted copies, the recipes in their notes, and a short training of each kind."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from asum_lib.corpora import talks
from asum_lib.errors import InputError
from asum_lib.models import adapted, ladder
from asum_lib.paths import CHECKPOINTS
from asum_lib.training import systems
from asum_lib.training.adapters import MODULES, adapter_of, kept_rank_mean
from asum_lib.training.finetune import Training

FEW = 6  # talks of each split


@pytest.fixture
def few_talks(monkeypatch):
    """Corpora of the first talks only."""
    scripts = talks.scripts
    whole = {(name, split): talks.load_talks(name, split) for name, split in (("howto-talks", "train"), ("howto-talks", "dev"))}
    monkeypatch.setattr(talks, "scripts", lambda name, split: scripts(name, split)[:FEW])
    monkeypatch.setattr(talks, "load_talks", lambda name, split, *_: replace(whole[name, split], talks=whole[name, split].talks[:FEW]))


def test_each_phrase_has_the_words_of_its_sentence(few_talks):
    split = systems.phrase_split(ladder.extractor(), [("howto-talks", "dev")], 1, 0)
    said = [take.text for script in talks.scripts("howto-talks", "dev") for take in script.takes]
    assert split.texts == said and split.features.shape == (len(said), 80, 200)


def test_copies_of_a_phrase_are_shifted_and_the_first_is_not(few_talks):
    plain = systems.phrase_split(ladder.extractor(), [("howto-talks", "dev")], 1, 0)
    both = systems.phrase_split(ladder.extractor(), [("howto-talks", "dev")], 2, 0)
    assert both.texts[::2] == both.texts[1::2] == plain.texts
    np.testing.assert_array_equal(both.features[::2], plain.features)
    assert not any(np.array_equal(copy, phrase) for copy, phrase in zip(both.features[1::2], plain.features, strict=True))


def test_a_seed_gives_the_same_copies(few_talks):
    one, again, other = (systems.phrase_split(ladder.extractor(), [("howto-talks", "dev")], 2, seed).features for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_talk_that_is_cut_otherwise_is_left_out_and_said(few_talks, monkeypatch):
    monkeypatch.setattr(systems, "phrases", lambda path, window_s: [])
    said = []
    with pytest.raises(InputError, match="no talk of howto-talks dev is cut into as many phrases as it has sentences"):
        systems.phrase_split(ladder.extractor(), [("howto-talks", "dev")], 1, 0, said.append)
    assert said[-1] == f"{FEW} talks are left out: not as many phrases as sentences"


@pytest.mark.parametrize("name", systems.SHIPPED)
def test_a_shipped_adapter_was_made_by_its_recipe(name):
    recipe, note = systems.SHIPPED[name], adapted.read(CHECKPOINTS / "adapters" / name)
    assert (note.base, note.precision, note.what) == (recipe.base, recipe.precision, systems.WHAT[name])
    assert {key: note.training[key] for key in asdict(recipe.training)} == asdict(recipe.training)
    expected = asdict(recipe.adapter) | {"target_modules": list(recipe.adapter.target_modules)}
    assert note.training["adapter"] == expected and note.training["corpora"] == list(recipe.corpora) and note.training["seed"] == 0


def test_a_summariser_is_trained_to_its_rank_and_its_loss_falls(few_talks):
    recipe = replace(systems.SUMMARIZER, training=Training(1e-2, epochs=6, batch_size=4), adapter=adapter_of("adalora", 4, MODULES["t5"]["qkv"]))
    loaded, history = systems.summarizer(0, recipe)
    assert kept_rank_mean(loaded.model) == 4 and loaded.family == "t5"
    assert history[-1]["dev_loss"] < history[0]["dev_loss"] - 1 and {"dev_rouge1", "dev_rouge2", "dev_rougeL"} <= set(history[-1])


def test_a_hearer_is_trained_on_phrases_and_its_errors_are_counted(few_talks):
    recipe = replace(systems.hearer_of("tiny"), training=Training(2e-3, epochs=3), adapter=adapter_of("adalora", 4), precision="fp32", copies=2)
    speech, history = systems.hearer(0, recipe)
    assert kept_rank_mean(speech.model) == 4 and len(history) == 4 and 0 < history[-1]["dev_wer_pct"] < 120
    assert history[-1]["train_loss"] < history[1]["train_loss"]


def test_an_unknown_adapter_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown adapter 'bart': choose from whisper-medium-int8-adalora, t5-talks-adalora"):
        systems.adapt("bart", tmp_path)
