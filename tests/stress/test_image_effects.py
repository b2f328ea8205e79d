"""Image corruptions against independent implementations: PyTorch, SciPy, and calculations by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn, idctn
from scipy.signal import convolve2d

from mld_pipelines.stress import _image_blur as blur
from mld_pipelines.stress import _image_digital as digital
from mld_pipelines.stress import _image_geometry as geometry
from mld_pipelines.stress import _image_light as light
from mld_pipelines.stress import _image_noise as noise
from mld_pipelines.stress._jpeg import CHROMINANCE, LUMINANCE, jpeg_round_trip, quantisation_table
from mld_pipelines.stress._resampling import area_matrix, bilinear_matrix, nearest_matrix, resample

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)
IMAGE = RNG.random((3, 32, 32))
WIDE = RNG.random((3, 32, 48))


def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("step", range(5))
def test_gaussian_blur_is_a_convolution_with_the_sampled_gaussian(step):
    sigma = (0.5, 0.75, 1.0, 1.4, 1.9)[step]
    radius = int(3 * sigma + 0.5)
    line = np.exp(-(np.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    padded = np.pad(IMAGE[0], radius, mode="reflect")
    np.testing.assert_allclose(blur.gaussian(IMAGE, step, rng())[0], convolve2d(padded, kernel, mode="valid"))


@pytest.mark.parametrize(("step", "streak"), [(0, [1] * 3), (1, [0.5, 1, 1, 1, 0.5]), (2, [1] * 5), (4, [1] * 9)])
def test_motion_blur_is_a_convolution_with_a_centred_diagonal(step, streak):
    reach = len(streak) // 2
    kernel = torch.from_numpy(np.fliplr(np.diag(np.asarray(streak) / sum(streak))).copy())[None, None]
    padded = torch.from_numpy(np.pad(IMAGE[:1], ((0, 0), (reach, reach), (reach, reach)), mode="reflect"))
    expected = torch.nn.functional.conv2d(padded[None], kernel)[0].numpy()
    np.testing.assert_allclose(blur.motion(IMAGE, step, rng())[:1], expected, atol=1e-12)


def test_lengths_grow_with_the_shorter_side():
    """An impulse in 64 × 96 pixels spreads with twice the standard deviation it has in 32 × 32."""

    def spread(side: int, width: int) -> float:
        image = np.zeros((1, side, width))
        image[0, side // 2, width // 2] = 1.0
        blurred = blur.gaussian(image, 4, rng())[0].sum(axis=1)
        rows = np.arange(side) - side // 2
        return float(np.sqrt((blurred * rows**2).sum()))

    assert spread(64, 96) / spread(32, 32) == pytest.approx(2.0, rel=0.02)
    assert blur.coarse_size(np.zeros((1, 32, 32)), 0.5) == (16, 16)
    assert blur.coarse_size(np.zeros((1, 64, 128)), 0.5) == (16, 32)
    assert blur.coarse_size(np.zeros((1, 16, 16)), 0.5) == (8, 8)


@pytest.mark.parametrize(("size", "target"), [(32, 19), (32, 16), (7, 7), (9, 2), (5, 1)])
def test_area_matrix_averages_what_each_target_pixel_covers(size, target):
    """Integrals of the piecewise constant signal, by differences of its cumulative sum."""
    values = RNG.random(size)
    cumulative = np.concatenate([[0.0], np.cumsum(values)])
    edges = np.interp(np.linspace(0, size, target + 1), np.arange(size + 1), cumulative)
    np.testing.assert_allclose(area_matrix(size, target) @ values, np.diff(edges) * target / size)


@pytest.mark.parametrize(("mode", "matrix"), [("bilinear", bilinear_matrix), ("nearest-exact", nearest_matrix)])
@pytest.mark.parametrize(("height", "width"), [(5, 9), (1, 3), (40, 7)])
def test_enlarging_is_that_of_pytorch(mode, matrix, height, width):
    image = RNG.random((2, 4, 5))
    expected = torch.nn.functional.interpolate(torch.from_numpy(image)[None], size=(height, width), mode=mode)[0]
    got = resample(image, matrix(4, height), matrix(5, width))
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-12)


def affine(image: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
    theta = torch.tensor([[*row, 0.0] for row in matrix], dtype=torch.float64)[None]
    grid = torch.nn.functional.affine_grid(theta, [1, *image.shape], align_corners=False)
    sample = torch.nn.functional.grid_sample(
        torch.from_numpy(image)[None], grid, padding_mode="reflection", align_corners=False
    )
    return sample[0].numpy()


@pytest.mark.parametrize("step", range(5))
def test_rotation_is_one_of_pytorchs_two(step):
    angle = np.deg2rad((5, 10, 15, 22, 30)[step])
    got = geometry.rotate(IMAGE, step, rng())
    turned = [affine(IMAGE, [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in (angle, -angle)]
    assert min(np.abs(got - expected).max() for expected in turned) < 1e-9


def test_both_directions_occur():
    turned = {geometry.rotate(IMAGE, 2, np.random.default_rng(seed)).tobytes() for seed in range(20)}
    slanted = {geometry.shear(IMAGE, 2, np.random.default_rng(seed)).tobytes() for seed in range(20)}
    assert len(turned) == len(slanted) == 2


@pytest.mark.parametrize("step", range(5))
def test_shear_and_zoom_are_those_of_pytorch(step):
    amount, factor = (0.1, 0.2, 0.3, 0.4, 0.55)[step], (0.9, 0.8, 0.7, 0.6, 0.5)[step]
    slanted = [affine(IMAGE, [[1.0, sign * amount], [0.0, 1.0]]) for sign in (1, -1)]
    got = geometry.shear(IMAGE, step, rng())
    assert min(np.abs(got - expected).max() for expected in slanted) < 1e-9
    expected = affine(WIDE, [[factor, 0.0], [0.0, factor]])
    np.testing.assert_allclose(geometry.zoom(WIDE, step, rng()), expected, atol=1e-9)


def test_elastic_displacement_is_smooth_and_has_the_stated_size():
    """Warping two ramps reads the displacement back; mirrored borders are left out."""
    side = 64
    rows, columns = np.indices((side, side)).astype(float)
    ramps = np.stack([rows, columns])
    inner = slice(16, 48)
    moved = np.stack([
        (geometry.elastic(ramps, 4, np.random.default_rng(seed)) - ramps)[:, inner, inner] for seed in range(60)
    ])  # fmt: skip
    half = side / 2
    assert 0.06 < moved.std() / half < 0.15  # splines of grid noise vary less than the noise itself, 0.15
    steps = np.diff(moved, axis=-1)
    assert steps.std() < 0.2 * moved.std()  # neighbours move together; white noise has a ratio of 1.4


def test_noise_has_the_stated_strength():
    grey = np.full((1, 300, 300), 0.5)
    for step in range(5):
        sigma, photons = (0.02, 0.04, 0.07, 0.1, 0.14)[step], (400, 160, 70, 40, 20)[step]
        assert (noise.gaussian(grey, step, rng()) - grey).std() == pytest.approx(sigma, rel=0.02)
        assert noise.shot(grey, step, rng()).std() == pytest.approx(np.sqrt(0.5 / photons), rel=0.02)
        assert noise.speckle(grey, step, rng()).std() == pytest.approx(
            0.5 * (0.06, 0.1, 0.18, 0.27, 0.38)[step], rel=0.02
        )
        struck = noise.impulse(grey, step, rng())
        for value in (0.0, 1.0):
            assert (struck == value).mean() == pytest.approx((0.01, 0.02, 0.05, 0.09, 0.15)[step] / 2, rel=0.1)


def test_light_by_hand():
    image = np.array([0.2, 0.4, 0.9]).reshape(3, 1, 1)
    assert light.brighter(image, 2, rng()).ravel() == pytest.approx([0.4, 0.6, 1.1])
    assert light.darker(image, 2, rng()).ravel() == pytest.approx([0.1, 0.2, 0.45])
    assert light.contrast(image, 2, rng()).ravel() == pytest.approx([0.38, 0.46, 0.66])
    assert light.gamma(image, 2, rng()).ravel() == pytest.approx([0.04, 0.16, 0.81])
    assert light.saturation(image, 2, rng()).ravel() == pytest.approx([0.5, 0.5, 0.5])
    assert light.saturation(image[:1], 0, rng()).ravel() == pytest.approx([0.11])
    cloud = (light.fog(np.zeros((1, 40, 40)), 4, rng())) / 0.7
    assert 0.0 < cloud.min() < cloud.max() < 1.0
    assert np.abs(np.diff(cloud)).max() < 0.2  # no edges


def test_digital_faults_by_hand():
    hidden = digital.occlude(np.zeros((1, 20, 40)), 4, rng())
    assert (hidden == 0.5).sum() == 11 * 22
    blocks = digital.pixelate(IMAGE, 2, rng())
    np.testing.assert_allclose(blocks[:, ::2, ::2], IMAGE.reshape(3, 16, 2, 16, 2).mean(axis=(2, 4)))
    np.testing.assert_array_equal(blocks[:, ::2, ::2], blocks[:, 1::2, 1::2])
    assert set(np.unique(digital.posterise(IMAGE, 3, rng()))) == {0.0, 0.5, 1.0}


def test_jpeg_tables_are_those_of_libjpeg_at_quality_10_50_and_90():
    """First rows as `cjpeg` writes them (quality 50 is the standard's own table)."""
    np.testing.assert_array_equal(quantisation_table(LUMINANCE, 50), LUMINANCE)
    np.testing.assert_array_equal(quantisation_table(LUMINANCE, 10)[0], [80, 55, 50, 80, 120, 200, 255, 255])
    np.testing.assert_array_equal(quantisation_table(LUMINANCE, 90)[0], [3, 2, 2, 3, 5, 8, 10, 12])
    np.testing.assert_array_equal(quantisation_table(CHROMINANCE, 90)[0], [3, 4, 5, 9, 20, 20, 20, 20])


def test_jpeg_of_two_grey_blocks_quantises_their_cosine_transforms():
    """SciPy's orthonormal transform, block by block."""
    image = np.round(28.0 + 200.0 * RNG.random((1, 8, 16))) / 255.0
    table = quantisation_table(LUMINANCE, 50)
    got = jpeg_round_trip(image, quality=50)
    for columns in (slice(0, 8), slice(8, 16)):
        coefficients = dctn(image[0, :, columns] * 255.0 - 128.0, norm="ortho")
        expected = np.round(idctn(np.round(coefficients / table) * table, norm="ortho") + 128.0)
        np.testing.assert_allclose(got[0, :, columns] * 255.0, np.clip(expected, 0.0, 255.0), atol=1e-9)


def test_jpeg_codes_every_block_on_its_own():
    """Ragged sides too: the block in row 1, column 2 of a 3 × 3 grid does not depend on the others."""
    image = RNG.random((1, 20, 21))
    other = RNG.random((1, 20, 21))
    other[:, 8:16, 16:] = image[:, 8:16, 16:]
    one, two = (jpeg_round_trip(values, quality=20)[:, 8:16, 16:] for values in (image, other))
    np.testing.assert_array_equal(one, two)


def test_jpeg_keeps_uniform_colours_and_is_nearly_lossless_at_quality_100():
    for colour in ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.2, 0.6, 0.4]):
        flat = np.broadcast_to(np.reshape(colour, (3, 1, 1)), (3, 13, 10)).copy()
        assert np.abs(jpeg_round_trip(flat, quality=100) - flat).max() <= 2.0 / 255.0
    smooth = np.broadcast_to(np.linspace(0, 1, 24), (1, 20, 24)).copy()
    assert np.abs(jpeg_round_trip(smooth, quality=100) - smooth).max() <= 2.0 / 255.0
