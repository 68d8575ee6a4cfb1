"""What the memory pages show of made-up rows, and that what they teach is what the library counts."""

import shutil
import subprocess

import pytest
from bs4 import BeautifulSoup

from asum_lib.errors import InputError
from asum_lib.study import fit, render_memory

MB = 10**6


def text(shown) -> str:
    return " ".join(BeautifulSoup(shown.data, "html.parser").get_text(" ").split())


def table_rows(shown) -> list[list[str]]:
    lines = BeautifulSoup(shown.data, "html.parser").find_all("tr")
    return [[" ".join(cell.get_text(" ").split()) for cell in line.find_all("td")] for line in lines if line.find("td")]


def row(metric, value=None, *, size="large", precision="int8", method="none", **more):
    """One object as `memory_table.rows` gives it."""
    cell = {"model": "whisper", "size": size, "precision": precision, "rest": "float32", "method": method, "rank": None, "batch_size": 1}
    cell |= {"read": 0, "written": 160, "optimizer": None, "gradient_checkpointing": False, "device": "cpu"}
    cell |= {key: more.pop(key) for key in list(more) if key in cell}
    usual = {"lo": None, "hi": None, "n": 1, "reason": None, "records": ["results/paper/memory/made-up.json"]}
    return {"cell": cell, "metric": metric, "value": value, "status": "missing" if value is None else "ok"} | usual | more


def test_a_size_and_precision_has_every_meaning_with_its_changes_and_the_papers_percentage():
    rows = [row("weights_bytes", 1773 * MB), row("weights_vs_fp32_pct", -71.28), row("weights_vs_fp16_pct", -42.56)]
    shown = render_memory.precision_table(rows)
    assert table_rows(shown) == [["large", "int8", "1,773 −71 % / −43 %", "", "", "", "", "−30 % s"]]
    assert 'href="../results/paper/memory/made-up.json"' in shown.data
    assert "quantisation state included" in text(shown)


def test_the_dtype_of_the_rest_tells_two_cells_apart():
    rows = [row("weights_bytes", 1773 * MB), row("weights_bytes", 1623 * MB, rest="float16")]
    assert "1,773" in text(render_memory.precision_table(rows))
    assert "1,623" in text(render_memory.precision_table(rows, rest="float16"))


def test_a_repeated_measurement_shows_its_range_and_number():
    rows = [row("load_peak_bytes", 1862 * MB, lo=1860 * MB, hi=1870 * MB, n=3)]
    assert "1,862 1,860 to 1,870, n = 3" in text(render_memory.precision_table(rows))


def test_a_measured_peak_stands_beside_the_accounted_one_with_the_per_cent_between_them():
    rows = [row("train_peak_accounted_bytes", 7200 * MB, method="adalora", rank=8), row("train_peak_bytes", 7344 * MB, method="adalora", rank=8)]
    assert table_rows(render_memory.peak_table(rows=rows)) == [
        ["whisper large", "int8", "AdaLoRA, rank 8", "training step", "7,200", "7,344", "+2.0 %"]
    ]


def test_what_is_accounted_only_stands_in_a_table_of_its_own_with_its_reason():
    rows = [row("train_peak_accounted_bytes", 26_900 * MB, precision="fp32", method="full"), row("train_peak_bytes", precision="fp32", method="full")]
    rows[1]["reason"] = "more than <b>20 GB</b>"
    assert "No record" in text(render_memory.peak_table(rows=rows))
    shown = render_memory.peak_table(rows=rows, measured=False)
    assert table_rows(shown) == [["whisper large", "fp32", "full fine-tuning", "training step", "26,900", "more than <b>20 GB</b>"]]
    assert "<b>20 GB" not in shown.data


def test_loading_is_shown_as_a_multiple_of_the_weights():
    rows = [row("weights_bytes", 1800 * MB), row("load_peak_bytes", 1890 * MB), row("saved_load_peak_bytes", 1818 * MB)]
    assert table_rows(render_memory.loading_table(rows)) == [["large", "int8", "float32", "1,800", "1,890", "1.05", "1,818", "1.01"]]


def test_a_gpu_without_a_record_is_not_measured_yet():
    rows = [row(f"decode_peak_{figure}_bytes", device="cuda") for figure in ("allocated", "reserved", "driver")]
    assert table_rows(render_memory.gpu_table(rows)) == [["whisper large", "all", "all", "not measured yet"]]
    assert "not measured yet" in text(render_memory.gpu_table([]))


def test_a_gpu_with_records_has_three_figures_a_phase():
    values = {"allocated": 2325, "reserved": 2400, "driver": 2900}
    rows = [row(f"decode_peak_{figure}_bytes", value * MB, device="cuda") for figure, value in values.items()]
    assert table_rows(render_memory.gpu_table(rows)) == [["whisper large", "int8", "none", "2,325 / 2,400 / 2,900"]]


def test_a_reading_holds_where_both_precisions_are_within_the_margin():
    rows = [row("disk_vs_fp16_pct", -33.0, size="small"), row("disk_vs_fp16_pct", -61.0, size="small", precision="int4")]
    rows += [row("disk_vs_fp16_pct", -33.0, size="large"), row("disk_vs_fp16_pct", -80.0, size="large", precision="int4")]
    found = [reading for reading in render_memory.readings(rows) if reading.agreeing]
    assert [(reading.metric, reading.baseline, reading.rest) for reading in found] == [("disk_bytes", "fp16", "float32")]
    assert found[0].agreeing == ("small",)
    assert found[0].furthest == 4.0  # int4: -61 against -65
    assert "−33 % / −61 %" in text(render_memory.readings_table(rows))


def test_the_ratio_is_that_of_the_models_parameters_to_the_trained_ones():
    cell = {"size": "tiny", "precision": "fp32", "method": "lora", "rank": 8}
    rows = [row("parameters_total", 20_200_000, **cell), row("parameters_trainable", 200_000, **cell)]
    first = table_rows(render_memory.ratio_table(rows))[0]
    assert first == ["whisper-tiny", "20.0 M", "100x 0.20 M trained", "missing", "missing"]


def test_findings_are_made_from_the_rows():
    rows = [row("weights_vs_fp32_pct", -33.0, size="tiny"), row("weights_vs_fp32_pct", -71.0, size="large")]
    rows += [row("weights_bytes", 1800 * MB, records=[]), row("load_peak_bytes", 1890 * MB)]
    rows += [row("train_peak_accounted_bytes", 1000 * MB, method="lora"), row("train_peak_bytes", 1150 * MB, method="lora")]
    said = text(render_memory.findings(rows))
    assert "The weights in int8 are 33 % (tiny) to 71 % (large) smaller than in fp32; the paper has about 30 %" in said
    assert "1.05 times its weights" in said
    assert "within 10 % of the accounted one in 0 of 1 cells, from +15 % to +15 %" in said


def test_without_rows_every_view_says_so_instead_of_failing(tmp_path):
    views = (render_memory.precision_table, render_memory.plot_change, render_memory.measured_on, render_memory.readings_table)
    assert all("No record" in text(view([])) for view in (*views, render_memory.loading_table, render_memory.findings))
    assert "not testable" in text(render_memory.verdict("A7", tmp_path / "results"))
    assert "missing" in text(render_memory.ratio_table([]))


def test_the_plot_says_its_numbers_and_the_papers_in_words():
    rows = [row("weights_vs_fp32_pct", -71.3), row("weights_vs_fp32_pct", -81.7, precision="int4")]
    image = BeautifulSoup(render_memory.plot_change(rows).data, "html.parser").img
    assert "int8 weights large -71; the paper for int8 -30; int4 weights large -82; the paper for int4 -65" in image["alt"]


def test_a_budget_of_one_gpu_day_at_full_use():
    assert render_memory.tokens_trained(1, 6e12, 1.0, 1e9) == 86_400_000  # 6e12 FLOP/s are 1,000 tokens/s at 1e9 parameters


def test_the_days_of_the_schedule_are_those_that_the_paper_names():
    assert sum(days * gpus for days, gpus in render_memory.GPU_SCHEDULE) == render_memory.QUOTED["gpu_days"].value


def test_by_hand_and_by_the_library_must_agree():
    with pytest.raises(InputError, match="biases: 4 bytes by hand, 5 by the library"):
        render_memory.agree({"biases": (4, 5)})


@pytest.mark.parametrize(("method", "precision"), [("full", "fp32"), ("lora", "fp32"), ("lora", "int8"), ("lora", "int4")])
def test_what_a_layer_keeps_is_what_the_accounting_adds_for_it(method, precision):
    from asum_lib.measure import memory, trace
    from asum_lib.models import catalogue

    config = catalogue.shallow(catalogue.config("whisper-tiny"), 3)
    model = catalogue.skeleton(config, "float32", precision)
    from asum_lib.measure.standin import stand_in

    stand_in(model, "cpu")
    adapted = fit.prepare(model, method, 8)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]

    def kept(encoder_layers):
        inputs = catalogue.training_inputs(model, batch_size=1, read=0, written=16)
        depths = {"encoder": encoder_layers, "decoder": 3}
        with trace.kernels_of("cpu"):
            return trace.traced(lambda: adapted(**inputs).loss, catalogue.stacks(model), depths, memory.held(model), trained).kept

    assert sum(tensor.bytes for tensor in render_memory.kept(method, precision, "whisper-tiny")) == kept(4) - kept(3)


@pytest.fixture
def fit_rows():
    return render_memory.fit_rows(["whisper-tiny", "whisper-large"])


def test_the_fit_table_has_a_row_a_model_precision_and_method(fit_rows):
    found = table_rows(render_memory.fit_table(fit_rows))
    assert len(found) == 2 * (4 + 6 + 4)  # decoding in four precisions, training by three methods in two and by two in two
    tiny = next(line for line in found if line[:3] == ["whisper-tiny", "fp32", "none"])
    assert tiny[6] == "151"  # 37.76 million parameters of 4 bytes


def test_the_fit_plot_says_its_totals_in_words(fit_rows):
    image = BeautifulSoup(render_memory.plot_fit(fit_rows).data, "html.parser").img
    large = next(line for line in fit_rows if (line["model"], line["precision"], line["method"]) == ("whisper-large", "int4", "none"))
    assert f"int4 decoding {large['step_bytes'] / 1e9:.1f}" in image["alt"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here to run the table's script")
def test_the_fit_table_sorts_and_filters_in_a_browser(fit_rows, tmp_path):
    script = """<script>
    const shown = () => [...document.querySelectorAll("tbody tr")].filter((row) => !row.hidden);
    const peak = () => shown()[0].dataset.peak, head = document.querySelectorAll("th")[3], memory = document.querySelector("input[type=number]");
    const limit = (gigabytes) => { memory.value = gigabytes; memory.dispatchEvent(new Event("input")); };
    const said = [document.querySelector("output").textContent];
    limit("LEAST");
    said.push(shown().length);
    limit("100");
    head.firstChild.click();
    said.push(peak(), head.getAttribute("aria-sort"));
    head.firstChild.click();
    said.push(peak(), head.getAttribute("aria-sort"));
    document.title = said.join("; ");
    </script>"""
    peaks = sorted(row["peak_bytes"] for row in fit_rows)
    page = tmp_path / "page.html"
    shown = render_memory.fit_table(fit_rows, memory_gb=8).data + script.replace("LEAST", f"{(peaks[0] + 1) / 1e9:.9f}")
    page.write_text(f"<title></title>{shown}", encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom", page.as_uri()]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    fitting = sum(peak <= 8e9 for peak in peaks)
    expected = f"{fitting} of 28 fit; 1; {peaks[0]}; ascending; {peaks[-1]}; descending"
    assert BeautifulSoup(built, "html.parser").title.text == expected
