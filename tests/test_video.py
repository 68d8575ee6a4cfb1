"""Frames beside the speech: the eye, how the text model reads what it sees, the table's cells, its facts by kind, its rule and its pages."""

import copy
from dataclasses import replace

import pytest
import torch
from talk_records import few, right, tool, without_tool, write_cell

from asum_lib.corpora import talks
from asum_lib.errors import InputError
from asum_lib.models import loading, speech_summary, summarize, text_ladder
from asum_lib.models.eye import Eye, SeeingSummarizer, looking_loss
from asum_lib.models.ladder import checkpoint
from asum_lib.study import claims, render_video, talk_run, talk_scores, talk_video, video_frames
from asum_lib.study.talk_cells import E2E, IN_ROOMS, ROOMS, VIDEO, make_talk_cell, planned_talks
from asum_lib.training import seeing
from asum_lib.training import speech_summary as training
from asum_lib.training.adapters import MODULES, adapter_of
from asum_lib.training.finetune import Training

GIVEN = {"systems": list(IN_ROOMS), "corpora": list(ROOMS), "seeds": [0], "grid": False}

LORA = adapter_of("lora", 4, MODULES["t5"]["qkv"])


def pictures(count: int, seed: int = 0):
    return torch.randint(256, (count, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def ear():
    speech = loading.load(str(checkpoint("tiny")), "int8", "mini")
    return speech_summary.join(speech, summarize.load(str(text_ladder.checkpoint("t5")), "fp32", "en", "mini"), seed=0, inner=32)


@pytest.fixture
def seeing_model(ear):
    torch.manual_seed(0)
    return SeeingSummarizer(ear.model, Eye(128, ear.model.embeddings().shape[0])).eval()


@pytest.fixture(scope="module")
def states():
    return torch.randn(3, 100, 48, generator=torch.Generator().manual_seed(0))


def test_a_frame_becomes_one_vector_of_the_text_models_width():
    scores, vectors = Eye(8, 20)(pictures(3), torch.randn(20, 8))
    assert (scores.shape, vectors.shape) == ((3, 20), (3, 8))


def test_at_first_a_vector_is_a_mean_of_embeddings():
    embeddings = torch.randn(20, 8)
    _, vectors = Eye(8, 20)(pictures(3), embeddings)
    assert (vectors <= embeddings.max(dim=0).values).all() and (vectors >= embeddings.min(dim=0).values).all()


def test_without_frames_a_model_with_an_eye_reads_as_one_without(ear, seeing_model, states):
    ear.model.eval()
    for one, other in zip(seeing_model.read(states, [1, 2]), ear.model.read(states, [1, 2]), strict=True):
        assert torch.equal(one, other)


def test_what_is_seen_stands_between_the_prefix_and_what_is_heard(ear, seeing_model, states):
    ear.model.eval()
    drawn = pictures(4)
    heard, heard_mask = ear.model.read(states, [1, 2])
    both, mask = seeing_model.read(states, [1, 2], [drawn[:3], drawn[3:]])
    begin, (_, seen) = len(ear.model.frame.prefix), seeing_model.eye(drawn, ear.model.embeddings())
    assert (mask.sum(dim=1) - heard_mask.sum(dim=1)).tolist() == [3, 1]
    assert torch.allclose(both[0, begin : begin + 3], seen[:3], atol=1e-5)
    length = int(heard_mask[1].sum())
    assert torch.allclose(both[1, begin + 1 : length + 1], heard[1, begin:length], atol=1e-5)


def test_frames_of_another_talk_change_what_is_read(seeing_model, states):
    one, other = (seeing_model.read(states, [3], [pictures(2, seed)])[0] for seed in (0, 1))
    assert not torch.allclose(one, other)


def test_the_eye_learns_which_word_is_said_with_which_colour():
    dark, light = torch.zeros(1, 48, 48, 3, dtype=torch.uint8), torch.full((1, 48, 48, 3), 255, dtype=torch.uint8)
    frames, said, embeddings = torch.cat([dark, light]), torch.eye(2), torch.eye(2, 4) * 10
    torch.manual_seed(0)
    eye = Eye(4, 2)
    optimizer = torch.optim.AdamW(eye.parameters(), lr=1e-2)
    for _ in range(30):
        loss = looking_loss(eye, frames, said, embeddings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert eye(frames, embeddings)[0].argmax(dim=1).tolist() == [0, 1]


def test_a_word_said_in_every_sentence_weighs_nothing():
    weights = seeing.weights_of([[0, 1], [0, 2], [0, 1]], vocabulary=4)
    assert torch.allclose(weights, torch.tensor([[0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]], dtype=torch.float))


def test_the_last_step_trains_eye_and_bridge_together(ear, states):
    model = copy.deepcopy(SeeingSummarizer(ear.model, Eye(128, ear.model.embeddings().shape[0])))
    before = {name: getattr(model, name).words.weight.clone() for name in ("bridge", "eye")}
    split = training.HeardTalks([states.half(), states[:2].half()], ["peter explains.", "anna explains."], [pictures(2), pictures(3)])
    trained, _ = training.summarise(replace(ear, model=model), split, split, Training(1e-2, epochs=1, batch_size=2), LORA, seed=0)
    after = trained.get_base_model()
    assert all(not torch.equal(getattr(after, name).words.weight, weight) for name, weight in before.items())


def test_every_arm_is_planned_in_every_room_with_three_seeds():
    cells = planned_talks(VIDEO)
    arms = [cell for cell in cells if cell.system in IN_ROOMS]
    assert len({(cell.system, cell.corpus, cell.seed) for cell in arms}) == len(arms) == 27
    assert {cell.trained_on for cell in arms} == {"howto-talks-rooms"}
    assert [cell.corpus for cell in cells if cell.system == "cascade"] == list(ROOMS)
    assert len({cell.path("results") for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"system": "e2e-frames", "table": E2E}, "unknown system 'e2e-frames'"),
        ({"system": "e2e", "table": VIDEO, "corpus": "howto-stress"}, "unknown corpus of talks 'howto-stress'"),
        ({"system": "e2e", "table": E2E, "corpus": "howto-talks-5db"}, "unknown corpus of talks 'howto-talks-5db'"),
        ({"system": "e2e-frames", "asr": "tiny", "table": VIDEO}, "the end-to-end model hears with medium"),
    ],
)
def test_a_cell_that_there_is_not_is_refused(cell, message):
    with pytest.raises(InputError, match=message):
        make_talk_cell(**cell)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"systems": ["frames"]}, "unknown systems 'frames'"),
        ({"corpora": ["howto-talks-3db"]}, "unknown corpora 'howto-talks-3db'"),
        ({"seeds": []}, r"parameter seeds is \[\], and should be a list of one or more whole numbers"),
    ],
)
def test_a_parameter_that_there_is_not_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        video_frames.run(**GIVEN | wrong)


def test_the_arms_of_a_seed_are_told_apart_by_their_fingerprints_and_learn_alike():
    without, own, other = (make_talk_cell(system, table=VIDEO) for system in IN_ROOMS)
    assert len({talk_run.fingerprint_of(cell) for cell in (without, own, other)}) == 3
    recipes = [talk_run.resolve(cell)[0]["in_rooms"] for cell in (without, own)]
    assert recipes[0] == {name: value for name, value in recipes[1].items() if name not in ("looking", "frames")}


def test_facts_are_counted_kind_by_kind():
    talk = few().talks[0]
    counts = talk_video.by_kind(talk.facts, without_tool(talk))
    wanted = {kind: sum(fact.kind == kind and fact.key for fact in talk.facts) for kind in talk_video.KINDS}
    assert {kind: counts[f"{kind}_wanted"] for kind in wanted} == wanted
    assert (counts["task_right"], counts["tool_right"]) == (1, 0)
    assert (counts["shown_right"], counts["shown_wanted"]) == (1, 2)
    assert counts["unshown_right"] == counts["unshown_wanted"] == sum(wanted.values()) - 2


def write_table(results, written: dict, corpora=ROOMS) -> None:
    """Made-up records of the three arms: `written[system]` gives a summary of a talk."""
    for corpus in corpora:
        spoken = few(corpus)
        for system, write in written.items():
            rows = talk_scores.sample_rows(spoken, [write(talk) for talk in spoken.talks])
            rows = [row | talk_video.by_kind(talk.facts, row["summary"]) for row, talk in zip(rows, spoken.talks, strict=True)]
            for seed in (0, 1, 2):
                write_cell(results, make_talk_cell(system, table=VIDEO, corpus=corpus, seed=seed), rows)


def verdict(results) -> str:
    [claim] = claims.judge(results=results, only="V1")
    return claim["verdict"]


def test_frames_that_bring_the_tool_back_reproduce_the_claim(tmp_path):
    write_table(tmp_path / "results", {"e2e": without_tool, "e2e-frames": right, "e2e-other-frames": without_tool})
    assert verdict(tmp_path / "results") == "reproduced"


def test_frames_of_any_talk_that_help_as_much_contradict_it(tmp_path):
    write_table(tmp_path / "results", {"e2e": without_tool, "e2e-frames": right, "e2e-other-frames": right})
    assert verdict(tmp_path / "results") == "not reproduced"


def test_frames_that_change_nothing_contradict_it(tmp_path):
    write_table(tmp_path / "results", dict.fromkeys(IN_ROOMS, without_tool))
    assert verdict(tmp_path / "results") == "not reproduced"


def test_a_room_that_is_not_measured_leaves_it_open(tmp_path):
    write_table(tmp_path / "results", {"e2e": without_tool, "e2e-frames": right, "e2e-other-frames": without_tool}, ROOMS[:2])
    assert verdict(tmp_path / "results") == "inconclusive"


def test_the_page_shows_every_arm_and_says_what_frames_bring(tmp_path):
    results = tmp_path / "results"
    write_table(results, {"e2e": without_tool, "e2e-frames": right, "e2e-other-frames": without_tool})
    table = render_video.main_table(results).data
    assert table.count("without frames") == 3 and "own room, 12 to 30 dB" in table
    assert "missing" in table  # the cascade
    assert "tasks and tools stated: own room, 12 to 30 dB +50.0 (+50.0 to +50.0) percentage points, above" in render_video.findings(results).data
    assert "+50.0 (+50.0 to +50.0)" in render_video.differences_table(results).data
    assert "tool stated, %" in render_video.kinds_table(results).data
    assert "task and tool, with the talk&#x27;s frames, 5 dB: 100.0" in render_video.plot(results).data


def test_without_a_record_the_page_says_so(tmp_path):
    for show in (render_video.main_table, render_video.kinds_table, render_video.differences_table, render_video.plot, render_video.findings):
        assert "No record of this yet" in show(tmp_path).data


def test_what_a_record_says_is_shown_as_text(tmp_path):
    results = tmp_path / "results"
    write_table(results, dict.fromkeys(IN_ROOMS, right))
    write_cell(results, make_talk_cell("cascade", table=VIDEO), [], reason="<script>alert(1)</script>")
    shown = render_video.main_table(results).data
    assert "&lt;script&gt;" in shown and "<script>" not in shown


def test_the_figure_says_what_its_frames_show():
    script = talks.scripts("howto-talks", "dev")[0]
    said = render_video.drawn_frames().data
    assert tool(script) in said and "nothing" in said
