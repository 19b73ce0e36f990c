"""The whole chain at 256 px: every stage trains, resumes and is exported with parity."""

import json
import resource

import fake_run
import pytest
import tiny

from cgan_tf import data
from cgan_tf.editing import projection
from cgan_tf.export import stage as export_stage
from cgan_tf.stages import evaluate

MEMORY = 16 * 2**20  # KiB, limit of the process
VARIANTS = {"saved_model", "translator_float32", "translator_float16"}


@pytest.mark.slow
def test_a_chain_at_256_px(tmp_path, slim_vgg, monkeypatch):
    config = tiny.make_config(
        tmp_path / "cache",
        resolution=256,
        gan_arch="residual",
        regressor_kimg=0.012,
        inversion_kimg=0.012,
        directions_kimg=0.012,
        evaluate_judge_kimg=0.256,
        evaluate_samples=100,
        evaluate_projections=1,
        checkpoint_minutes=1e-9,
    )
    monkeypatch.setattr(projection, "OPTIMIZE_STEPS", 1)
    monkeypatch.setattr(projection, "HYBRID_STEPS", 1)
    assert (config.regressor.resolution, config.inversion.perceptual_crop) == (128, 128)
    faces = data.open_data(config, say=lambda line: None)
    folder = tiny.RunFolder(tmp_path / "run")
    tiny.save_config(folder, config, faces)
    for name, run in tiny.STAGES.items():
        with monkeypatch.context() as patch:
            tiny.interrupt(patch, checkpoint=1, kill=2)
            with pytest.raises(tiny.Killed):
                run(config, folder, faces)
        run(config, folder, faces)
        assert folder.stage(name).finished()
    evaluate.run(config, folder, faces)
    export_stage.run(config, folder, faces, say=lambda line: None)
    report = json.loads((folder.stage("export").path / "report.json").read_text())
    assert report["passed"] and set(report["variants"]) == VARIANTS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MEMORY


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["dcgan", "stylegan"])
def test_exports_of_the_other_generators_at_256_px(tmp_path, arch):
    config = fake_run.make_config(
        tmp_path / "cache",
        resolution=256,
        gan_arch=arch,
        gan_width=8,
        export_quantize=("none", "float16"),
    )
    with fake_run.slim():
        folder = fake_run.make_run(tmp_path / "run", config)
        export_stage.export_to(config, folder, tmp_path / "export", say=lambda line: None)
    report = json.loads((tmp_path / "export" / "report.json").read_text())
    assert report["passed"] and set(report["variants"]) == VARIANTS
