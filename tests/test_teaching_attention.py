"""The chapter on attention: its worked numbers, the heads of a real model, and the places of adapters."""

from dataclasses import replace

import numpy as np
import pytest

from asum_lib.errors import InputError
from asum_lib.teaching import attention, quantisation

THREE = [[1, 0], [0, 1], [1, 1]]
VALUES = [[10, 0], [0, 10], [5, 5]]


def test_three_positions_by_hand():
    found = attention.attend(THREE, THREE, VALUES)
    assert found.scores * np.sqrt(2) == pytest.approx(np.array([[1, 0, 1], [0, 1, 1], [1, 1, 2]]))
    assert found.weights == pytest.approx(np.array([[0.401, 0.198, 0.401], [0.198, 0.401, 0.401], [0.248, 0.248, 0.503]]), abs=5e-4)
    assert found.output[[0, 2]] == pytest.approx(np.array([[6.017, 3.983], [5, 5]]), abs=5e-4)


def test_the_causal_mask_hides_what_follows():
    found = attention.attend(THREE, THREE, VALUES, causal=True)
    assert found.weights == pytest.approx(np.array([[1, 0, 0], [0.330, 0.670, 0], [0.248, 0.248, 0.503]]), abs=5e-4)
    assert found.output[1] == pytest.approx([3.302, 6.698], abs=5e-4)


def test_one_query_over_three_keys():
    assert attention.attend([[2, 0]], THREE, VALUES).weights[0] == pytest.approx([0.446, 0.108, 0.446], abs=5e-4)


def test_two_heads_look_to_two_places_and_one_compromises():
    queries, keys, values = np.hstack([THREE, THREE]), np.hstack([THREE, np.array(THREE)[[1, 0, 2]]]), np.hstack([VALUES, VALUES])
    assert attention.attend_in_heads(queries, keys, values, 2)[0] == pytest.approx([6.017, 3.983, 3.983, 6.017], abs=5e-4)
    assert attention.attend_in_heads(queries, keys, values, 1)[0] == pytest.approx([5, 5, 5, 5])


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_attention_of_torch(causal):
    import torch

    query, key, value = np.random.default_rng(0).standard_normal((3, 5, 8))
    theirs = torch.nn.functional.scaled_dot_product_attention(*(torch.from_numpy(one) for one in (query, key, value)), is_causal=causal)
    assert attention.attend(query, key, value, causal).output == pytest.approx(theirs.numpy())


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="do not fit"):
        attention.attend([[1, 0, 0]], THREE, VALUES)
    with pytest.raises(InputError, match="do not fit"):
        attention.attend(THREE, THREE, VALUES[:2])


def _heard(*looked_at: int) -> attention.Heard:
    """Three tokens of words at 1, 2 and 3 s and the end; one head that looks at these encoder positions."""
    weights = np.zeros((1, 1, 4, 100))
    weights[0, 0, range(4), looked_at] = 1
    return attention.Heard("a b c", ("a", "b", "c", "end"), np.array([1.0, 2.0, 3.0]), weights, 4.0)


def test_a_head_that_moves_with_the_words_scores_one_however_late_it_is():
    heard = [_heard(30, 55, 80, 0)]  # 25 positions of 40 ms are a second; the end token does not count
    assert attention.head_scores(heard) == pytest.approx(np.array([[1.0]]))
    assert attention.lag_s(heard, 0, 0) == pytest.approx(0.22)  # 30.5 x 40 ms is 1.22 s
    assert attention.head_scores([_heard(80, 55, 30, 0)]) == pytest.approx(np.array([[-1.0]]))


def test_the_best_head_is_named_by_layer_and_head():
    assert attention.best_head(np.array([[0.1, 0.2], [0.9, 0.3]])) == (1, 0)


def test_codes_are_found_and_heard_token_by_token():
    take, *_ = attention.code_takes("dev", count=1)
    assert take.text == "you can order it with number two nine one one three seven"
    heard = attention.hear(take, "tiny")
    assert heard.tokens[-7:] == ("two", "nine", "one", "one", "three", "seven", "end")
    assert heard.weights.shape == (1, 3, len(heard.tokens), 100)
    assert heard.weights.sum(axis=-1) == pytest.approx(1, abs=1e-5)
    assert len(heard.middles_s) == len(heard.tokens) - 1
    assert 0 < heard.middles_s[0] < heard.middles_s[-1] < heard.duration_s
    assert (np.diff(heard.middles_s) >= 0).all()


def test_what_is_too_long_for_the_window_is_refused():
    take, *_ = attention.code_takes("dev", count=1)
    with pytest.raises(InputError, match="do not fit a window of 4 s"):
        attention.hear(replace(take, text=f"{take.text} {take.text}"), "tiny")


def test_a_real_head_is_the_formula_and_a_real_decoder_is_causal():
    take, *_ = attention.code_takes("dev", count=1)
    ours, theirs = attention.recomputed(take, "tiny", layer=0, head=2)
    assert ours == pytest.approx(theirs, abs=1e-5)
    decoder, encoder = attention.weight_on_the_future(take, "tiny")
    assert decoder == 0 < encoder


def test_a_head_of_the_large_model_follows_digits_and_no_template():
    codes, openings = (
        [attention.hear(take, "large") for take in takes] for takes in (attention.code_takes("dev", 3), attention.opening_takes("dev", 3))
    )
    scores = attention.head_scores(codes)
    best = attention.best_head(scores)
    assert scores[best] > 0.9
    assert attention.head_scores(openings)[best] < 0.5


def test_modules_of_the_families_are_found_where_they_are():
    whisper, t5, mbart = (attention.modules(family) for family in ("whisper", "t5", "mbart"))
    assert [len(found) for found in (whisper, t5, mbart)] == [16, 16, 16]
    first = whisper[0]
    assert (first.path, first.shape, first.count, first.adapter) == ("model.encoder.layers.0.self_attn.q_proj", (128, 128), 3, 16 * (128 + 128))
    assert [one.name for one in whisper if not one.bias] == ["k_proj"] * 3
    assert not any(one.bias for one in t5)
    assert all(one.bias for one in mbart)
    cross = [one.path for one in t5 if one.part == "cross-attention"]
    assert cross[0] == "decoder.block.0.layer.1.EncDecAttention.q"


def test_the_table_of_modules_has_a_line_for_each_place_and_shape():
    shown = attention.modules_table(attention.modules("whisper"), ("q_proj", "k_proj", "v_proj")).data
    assert shown.count("<tr>") == 1 + 10
    assert "<td>q_proj, k_proj, v_proj</td><td>128 × 128</td><td>9</td><td>4,096 (25 %)</td>" in shown
    assert "<td>fc1</td><td>512 × 128</td><td>3</td><td>10,240 (16 %)</td>" in shown


def test_t5_has_no_bias_and_does_not_divide_its_scores():
    assert attention.t5_scaling() == 1
    assert "<td>wi</td><td>wo</td><td>all</td>" in attention.names_table().data


@pytest.mark.parametrize(
    ("name", "target", "trained"), [("whisper", "qkv", 110_592), ("t5-base", "qkv", 2_654_208), ("t5-base", "all-linear", 6_488_064)]
)
def test_shares_count_what_peft_trains(name, target, trained):
    assert attention.share(name, target).trained == trained


def test_a_quantised_layer_with_an_adapter_is_a_sum():
    found = attention.qlora_layer("tiny", rank=4)
    assert found.scaling == 2
    assert found.output == pytest.approx(found.base + 2 * (found.inputs @ found.down.T @ found.up.T), abs=1e-5)
    assert np.abs(found.output - found.base).max() > 0.01
    assert found.tensors == {"quantised weight": ("uint8", False), "A": ("float32", True), "B": ("float32", True)}


def test_an_update_of_full_rank_repairs_everything_and_of_rank_0_nothing():
    weight = quantisation.weight("tiny", "encoder.layers.0.self_attn.q_proj")  # 48 x 48
    before, after = attention.repaired_pct(weight, 48)
    assert after == pytest.approx(0, abs=1e-6)
    assert attention.repaired_pct(weight, 0) == (before, before)


def test_pictures_say_what_is_seen():
    picture = attention.plot_alignment([_heard(25, 50, 75, 99)], 0, 0).data
    assert "Attention of head 0 of layer 0" in picture
    assert "correlation 1.00, sound until 4.0 s" in picture
    assert "The highest is head 1 of layer 0." in attention.plot_head_scores(np.array([[0.2, 0.7]])).data
