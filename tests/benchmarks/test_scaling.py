"""benchmarks.scaling: the networks that it measures, and how the cost grows."""

import pytest

from benchmarks import scaling
from benchmarks.scaling import Network
from cgan_tf.core.errors import UserError


def test_each_network_is_measured_with_each_batch():
    found = scaling.parse_networks(["dcgan:64:48", "residual:128:24"], ["8", "32"], "auto")
    assert found == [
        Network("dcgan", 64, 48, 8),
        Network("dcgan", 64, 48, 32),
        Network("residual", 128, 24, 8),
        Network("residual", 128, 24, 32),
    ]


@pytest.mark.parametrize(
    "network, batch, message",
    [
        ("dcgan:64", "8", "--networks=dcgan:64: give ARCHITECTURE"),
        ("dcgan:64:wide", "8", "--networks=dcgan:64:wide"),
        ("dcgan:100:8", "8", "--resolution=100"),
        ("vgg:64:8", "8", "vgg"),
        ("dcgan:64:8", "many", "--batch_sizes=many"),
    ],
)
def test_senseless_networks_are_refused(network, batch, message):
    with pytest.raises(UserError, match=message):
        scaling.parse_networks([network], [batch], "auto")


def test_cost_is_relative_to_the_smallest_side_and_the_first_width():
    rows = {
        Network("dcgan", 64, 48, 8): {"ns_per_pixel": 4.0},
        Network("dcgan", 64, 96, 8): {"ns_per_pixel": 16.0},
        Network("dcgan", 256, 16, 8): {"ns_per_pixel": 5.0},
        Network("dcgan", 128, 24, 8): {"ns_per_pixel": 3.0},
        Network("dcgan", 64, 48, 32): {"ns_per_pixel": 2.0},
        Network("dcgan", 256, 16, 32): {"failure": "out of memory"},
        Network("residual", 128, 24, 8): {"ns_per_pixel": 9.0},
    }
    assert scaling.cost_growth(rows) == {
        "dcgan, batch 8, 128 px / 64 px": 0.75,
        "dcgan, batch 8, 256 px / 64 px": 1.25,
    }


def test_a_network_has_time_memory_and_weights():
    row = scaling.measure_network(Network("dcgan", 32, 4, 4), "false", 0.0)
    assert row["images_per_second"] == pytest.approx(4e3 / row["ms_per_step"])
    assert row["ns_per_pixel"] == pytest.approx(1e6 * row["ms_per_step"] / 4 / 32**2)
    # G: dense 128 -> 4 * 4 * 16, batch norm, 4 px kernels 16 -> 8 -> 4 -> 3 with a last bias.
    g = 128 * 256 + 2 * (16 + 8 + 4) + 16 * (16 * 8 + 8 * 4 + 4 * 3) + 3
    assert row["weights"][0] == g
