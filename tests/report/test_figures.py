"""The figures of report.html: tiles, tables, plots and matrices."""

import json
import math
import re

from report_folder import (
    NAMES,
    add_stage,
    evaluation,
    export_report,
    make_directions,
    more_of_edits,
    read,
    rows_of,
    words,
)

from cgan_tf.core.files import write_json, write_text
from cgan_tf.report import page
from cgan_tf.report.plots import MAX_SERIES


def test_headline_tiles_carry_n_and_seed(full):
    folder, _ = full
    tiles = re.findall(r'<div class="tile">(.*?)</div>', page.render(folder))
    assert [" ".join(re.sub("<[^>]*>", " ", tile).split()) for tile in tiles] == [
        "Samples: Fréchet distance 6.91 12.8 times the floor of 0.538, the distance between two "
        "sets of photos. 5,000 samples, 2,000 photos, seed 7.",
        "Attributes recognized 89.1 % correct Mean over 2 attributes; always predicting the more "
        "frequent class: 80.3 %. Balanced accuracy 80.0 %. 400 test photos, seed 7.",
        "Reconstructions 97.3 % closer to their photo than the best of 1,000 random samples. "
        "PSNR 19.8 dB. 400 test photos, seed 7.",
        "Smiling +0.65 in probability at strength +1; the other attributes change by 0.032 "
        "(leakage). 121 test photos without the attribute, seed 7.",
        "Blond_Hair +0.65 in probability at strength +1; the other attributes change by 0.032 "
        "(leakage). 121 test photos without the attribute, seed 7.",
    ]


def test_tables(full):
    folder, _ = full
    text = page.render(folder).replace("\N{NO-BREAK SPACE}", " ")
    assert rows_of(text, "Samples compared with photos at 32 px, seed 7")[1:] == [
        ["Fréchet distance between samples and photos (fd)", "6.91"],
        ["Floor of fd: photos compared with other photos", "0.538"],
        ["fd / floor", "12.8"],
        ["Kernel distance between them (kid)", "0.0123"],
        ["Precision: fraction of samples that look like photos", "71.0 %"],
        ["Recall: fraction of photos that the samples cover", "–"],
        ["Number of photos", "2,000"],
        ["Number of samples", "5,000"],
    ]
    assert rows_of(text, "By attribute, n = 400 test photos, seed 7")[1:] == [
        [name, "25.0 %", "93.5 %", "90.0 %", "95.0 %", "–"] for name in NAMES
    ]
    assert rows_of(text, "Distance of the reconstructions")[1] == [
        "encoder",
        "19.83",
        "0.642",
        "0.231",
        "–",
        "–",
        "97.3 %",
        "81.2 %",
        "–",
        "3.1 ms",
        "400",
        "7",
    ]
    edits = rows_of(text, "Edits of test photos by attribute and method")
    assert [row[:2] for row in edits[1:]] == [
        ["Smiling", "learned"],
        ["Smiling", "random"],
        ["Smiling", "removed"],
        ["Blond_Hair", "learned"],
        ["Blond_Hair", "random"],
        ["Blond_Hair", "removed"],
        ["Mean", "learned"],
    ]
    assert edits[1] == [
        "Smiling",
        "learned",
        "+1",
        "+0.654",
        "+0.610",
        "87.6 %",
        "0.032",
        "20.4",
        "8.76",
        "91.3 %",
        "3.21",
        "7.89",
        "+0.800",
        "+0.770",
        "0.030",
        "121",
        "7",
    ]
    assert edits[3][:8] == [
        "Smiling", "removed", "−1", "−0.432", "+0.610", "87.6 %", "0.032", "−13.5"
    ]  # fmt: skip
    assert rows_of(text, "Set test photos, means")[1:] == [
        *(
            [name, requested, reached, judged, "0.012", "0.123", "1.38", "95.6 %", "100", "7"]
            for name in NAMES
            for requested, reached, judged in (("0.20", "0.19", "0.26"), ("0.80", "0.79", "0.86"))
        ),
        ["Mean", "–", "–", "–", "0.020", "0.130", "1.25", "94.0 %", "100", "7"],
    ]
    assert rows_of(text, "Edited reconstructions compared with the true edits")[1] == [
        "Smiling",
        "86.4 %",
        "89.0 %",
        "–",
        "91.2 %",
        "–",
        "–",
        "–",
        "–",
        "–",
        "–",
        "–",
        "–",
        "18.91",
        "17.20",
        "20.10",
        "95.0 %",
        "90.0 %",
        "–",
        "–",
        "400",
        "7",
    ]
    assert rows_of(text, "Mean change by strength; n photos at each") == [
        ["Attribute", "−1", "−0.5", "+0.5", "+1", "n"],
        ["Smiling", "−0.50", "−0.25", "+0.25", "+0.50", "150"],
        ["Blond_Hair", "−0.49", "−0.24", "+0.26", "+0.51", "150"],
    ]
    exported = "Largest difference per signature on 64 test photos, strengths of seed 7"
    assert rows_of(text, exported) == [
        [
            "File",
            "Size",
            "Size of the weights",
            "Verdict",
            "Bound",
            "translate",
            "generate",
            "encode",
        ],
        ["saved_model", "4.35 MB", "4.00 MB", "passed", "1.0 × 10⁻⁴", "3.5 × 10⁻⁶", "–", "–"],
        [
            "translator_float16.tflite",
            "57.3 kB",
            "–",
            "passed",
            "2.0 × 10⁻²",
            "2.5 × 10⁻³",
            "3.5 × 10⁻⁶",
            "3.5 × 10⁻⁶",
        ],
    ]
    assert rows_of(text, "Edits and times of the files for devices") == [
        [
            "File",
            "Noise",
            "Bound",
            "Change kept",
            "Leakage added",
            "Agreement",
            "encode",
            "generate",
            "translate",
        ],
        [
            "translator_float16.tflite",
            "61.2 dB",
            "–",
            "98.8 %",
            "+0.0010",
            "99.5 %",
            "1.0 ms",
            "2.0 ms",
            "3.0 ms",
        ],
    ]
    assert "Scored by the judge." in text
    assert "The page in export/page uses the variant float16." in text
    assert rows_of(text, "Versions that the stages used")[1:] == [
        ["python", "3.12.1"],
        ["tensorflow", "2.21.0"],
    ]


def test_edits_are_told_in_plots_matrices_and_tables(full):
    folder, _ = full
    report_path = folder.stage("evaluate").path / "report.json"
    write_text(report_path, json.dumps(evaluation() | more_of_edits()))
    text = page.render(folder)
    reader = read(text)
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    headings = [
        "Edits",
        "Edits of the photo itself",
        "Effect of each strength",
        "Side effects by size of the edit",
        "Methods at the same target change",
        "Relations between the directions",
        "Round trips",
        "Compared with the ground truth",
    ]
    assert [part for part in reader.text["h3"] if part in headings] == headings
    charts = {}
    for chart in re.findall(r'<figure class="chart.*?</figure>', text, re.DOTALL):
        charts.setdefault(re.search("<strong>(.*?)</strong>", chart)[1], chart)  # titles repeat
    crossing = charts["Success"]
    assert crossing.count('class="bar') == 2 * 4
    assert crossing.count('class="dot') == 2 * 5  # and no edit at 0
    assert "<title>Smiling: 0 at 0</title>" in crossing
    assert "<title>Smiling: 0.812 at 0</title>" in charts["Retrieval"]
    assert "<title>Smiling: 0.400 at −2</title>" in crossing
    costs = charts["Other attributes preserved"]
    assert costs.count('class="dot') == 3 and "the run&#39;s directions" in costs
    cells = charts["Changes along each direction"]
    assert re.findall(r'class="cell"[^>]*>([^<]*)<', cells) == [
        "60",
        "−10",
        "−10",
        "−10",
        "60",
        "−10",
    ]
    assert re.findall(r'class="cell"[^>]*>([^<]*)<', charts["Cosines between the directions"]) == [
        "100",
        "0",
        "0",
        "100",
    ]
    assert rows_of(text, "By |target change|")[1] == [
        "(0, 0.3]",
        "the run&#39;s directions",
        "97.0 ± 1.0 %",
        "0.031 ± 0.002",
        "–",
        "300",
        "90",
    ]
    on_photo = rows_of(text, "Edits of test photos that keep")
    assert on_photo[1:] == [
        *(
            [name, *rest]
            for name in NAMES
            for rest in (
                ["detail kept", "+0.450", "0.021", "93.1 ± 0.5 %", "120", "7"],
                ["plain", "+0.450", "0.021", "88.0 ± 0.5 %", "120", "7"],
            )
        ),
        ["Mean", "detail kept", "+0.450", "0.021", "93.1 ± 0.5 %", "–", "–"],
        ["Mean", "plain", "–", "–", "88.0 %", "–", "–"],
    ]
    compared = rows_of(text, "At the same target change; photos without the attribute, out of 100")
    assert compared[1] == [
        "Smiling",
        "the run&#39;s directions",
        "+0.400",
        "0.020 ± 0.003",
        "0.250",
        "91.3 %",
        "3.00",
        "1",
        "121",
        "7",
    ]
    assert compared[-1][0] == "Mean" and compared[-1][7] == "2"
    assert rows_of(text, "Latent editing consistency")[1] == [
        "Smiling",
        "3.00",
        "2.50 ± 0.10",
        "2.00",
        "20.00",
        "22.00",
        "90.0 %",
        "95.0 %",
        "0.500",
        "60",
        "40",
        "7",
    ]


def test_the_same_person_has_a_table_if_a_recognizer_measured_it(full):
    folder, _ = full
    path = folder.stage("evaluate").path / "report.json"
    content = evaluation() | more_of_edits()
    assert "The same person" not in page.render(folder)

    def rates(strict, loose):
        return {"same_person_at_0.1": strict, "same_person_at_1": loose}

    content["identity"] = {
        "model": {"file": "<face>.onnx", "hash": "0", "format": {"metric": "cosine"}},
        "thresholds": rates(None, 0.625),
        "floor": rates(None, 0.01),
        "ceiling": rates(None, 0.972),
        "pairs": 780,
        "n": 40,
        "seed": 7,
    }
    content["inversion"]["encoder"] |= rates(None, 0.5)
    content["edits"]["learned"]["Smiling"] |= rates(None, 0.25)
    content["edits"]["learned"]["Smiling"]["interval"] = {"same_person_at_1": [0.2, 0.3]}
    content["edits"]["removed"]["Blond_Hair"] |= rates(0.125, 0.375)
    content["edits_mean"]["learned"] |= rates(None, 0.3)
    content["keep_detail"]["mean"]["keep_detail"] |= rates(None, 0.875)
    write_text(path, json.dumps(content))
    text = page.render(folder).replace("\N{NO-BREAK SPACE}", " ")
    found = {name: rest for name, *rest in rows_of(text, "The same person by false accepts")[1:]}
    assert found == {
        "Mirrored photos (ceiling)": ["–", "97.2 %", "40"],
        "Other photos (floor)": ["–", "1.0 %", "40"],
        "Reconstructions, encoder": ["–", "50.0 %", "400"],
        "Smiling +1": ["–", "25.0 ± 5.0 %", "121"],
        "Blond_Hair +1": ["–", "–", "121"],
        "Mean +1": ["–", "30.0 %", "–"],
        "Smiling −1": ["–", "–", "121"],
        "Blond_Hair −1": ["12.5 %", "37.5 %", "121"],
        "Mean −1": ["–", "–", "–"],
        "Mean +1, detail kept": ["–", "87.5 %", "–"],
    }
    text = words(read(text))
    assert "the face recognizer <face>.onnx takes" in text and "0.625 (cosine)" in text
    assert "The 780 pairs of these photos are too few for 0.1 %, which needs 1,000." in text
    content["identity"]["pairs"] = 1000
    write_text(path, json.dumps(content))
    assert "too few for 0.1 %" not in page.render(folder)


def test_intervals_stand_beside_the_figures_of_an_edit(full):
    folder, _ = full
    content = evaluation()
    content["edits"]["learned"]["Smiling"]["interval"] = {
        "target_change": [0.63, 0.68],
        "success": [0.85, 0.9],
        "leakage": [0.03, 0.034],
        "retrieval": [0.9, 0.92],
        "calibration_error": [0.01, 0.05],
    }
    write_text(folder.stage("evaluate").path / "report.json", json.dumps(content))
    text = page.render(folder).replace("\N{NO-BREAK SPACE}", " ")
    assert rows_of(text, "Edits of test photos by attribute and method")[1] == [
        "Smiling",
        "learned",
        "+1",
        "+0.654 ± 0.025",
        "+0.610",
        "87.6 ± 2.5 %",
        "0.032 ± 0.002",
        "20.4",
        "8.76",
        "91.3 ± 1.0 %",
        "3.21",
        "7.89",
        "+0.800",
        "+0.770",
        "0.030 ± 0.020",
        "121",
        "7",
    ]
    beside = dict(rows_of(text, "Smiling at strength +1")[1:])
    assert beside["Target change"] == "+0.65 ± 0.03"
    assert beside["Found among all photos"] == "91.3 ± 1.0 %"
    assert beside["Fréchet distance to photos with it"] == "3.21"
    assert beside["Target change when taken away"] == "−0.43"


def test_figures_that_nobody_knew_of_are_shown(full):
    folder, _ = full
    text = page.render(folder)
    assert "&#34;depth&#34;: 42.125" in text
    assert "<strong>odd_one</strong>" in text  # a chart of its own


def test_charts(full):
    folder, _ = full
    text = page.render(folder)
    charts = re.findall(r'<figure class="chart">.*?</figure>', text, re.DOTALL)
    titles = [re.search("<strong>(.*?)</strong>", chart)[1] for chart in charts]
    assert titles == [
        "GAN losses",
        "Discriminator probabilities",
        "Gradient penalties",
        "Loss",
        "Accuracy",
        "odd_one",
        "Loss",
        "Loss",
        "Loss of the edits",
        "Discriminator&#39;s loss",
        "Loss",
        "Judge&#39;s loss",
        "Judge&#39;s accuracy",
        "Judge&#39;s prediction by requested value",
        "Change by strength",
    ]
    assert "Smiling goes from 0.263 at 0.2 to 0.863 at 0.8" in charts[-2]
    assert "g_loss goes from 2.00 at 10 to 0.400 at 50" in charts[0]
    assert charts[0].count('class="line s') == 2 + 2 and charts[8].count('class="line s') == 5 + 5
    assert ">kimg</text>" in charts[0] and ">loss</text>" in charts[0]
    assert charts[-1].count('class="dot') == 2 * 5  # four strengths and zero, two attributes
    assert "<title>Blond_Hair: +0.510 at 1</title>" in charts[-1]


def test_figures_of_an_earlier_stage_are_said(full):
    folder, _ = full
    add_stage(folder, "regressor", "09:41:00", "11:00:00", 20, loss=0.5)
    text = words(read(page.render(folder)))
    for stage in ("inversion", "directions", "evaluate", "export"):
        assert f"The {stage} stage used an earlier regressor" in text
        assert f"--stage={stage} --run_dir={folder.path} --restart" in text
    assert "The gan stage used" not in text and "The regressor stage used" not in text


def test_export_that_failed_gives_the_reason(full):
    folder, _ = full
    write_json(folder.stage("export").path / "report.json", export_report(passed=False))
    text = words(read(page.render(folder)))
    assert "translator_float16 did not pass: translate gives NaN" in text
    failed = {"passed": False, "reason": "no variant has passed", "variant": None}
    path = folder.stage("export").path / "report.json"
    write_json(path, export_report() | {"page": failed})
    assert "The page was not made: no variant has passed" in words(read(page.render(folder)))


def test_long_attribute_tables_are_folded(full):
    folder, _ = full
    names = tuple(f"Attribute_{index:02d}" for index in range(40))
    write_text(folder.stage("evaluate").path / "report.json", json.dumps(evaluation(names)))
    make_directions(folder, names)
    text = page.render(folder)
    read(text)
    assert "<summary>Each of the 40 attributes</summary>" in text
    assert text.count("<strong>Change by strength</strong>") == math.ceil(42 / MAX_SERIES)
