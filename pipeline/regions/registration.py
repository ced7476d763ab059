"""Brings two images of one frame together before they are compared: colours and sharpness of the whole image.

Each estimate rests on the part of the image that agrees, so that what was edited does not pull it.
"""

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.masks import MaskBool

Float32 = NDArray[np.float32]
Matrix = NDArray[np.float64]

#: A difference of lightness beyond this is an edit, and counts as no more.
OUTLIER_LEVELS = 24.0
#: Residuals (levels) at which a pixel counts a quarter in the colour fit, one iteration after the other.
FIT_SCALES_LEVELS = (90.0, 60.0, 40.0, 28.0, 20.0, 14.0, 10.0, 7.0)
#: Variance of colour (levels squared) at which the fit is drawn half-way to no change.
GAIN_RIDGE, AFFINE_RIDGE = 3.0, 50.0
#: What a drift multiplies colours with, least and most; another map means another image.
COLOUR_GAINS = (0.5, 1.8)
#: Local contrast of the textured part that differs by a smaller share is no blur of the whole image.
SHARPNESS_TOLERANCE = 0.06
BLUR_SIGMAS_PX = (0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2)


def _cut_off(difference: Float32) -> Float32:
    return cast(Float32, np.minimum(np.abs(difference), np.float32(OUTLIER_LEVELS)))


def fit_colours(source: Float32, edited: Float32, where: MaskBool | None = None) -> NDArray[np.float64]:
    """The colour map (3, 4), matrix and offset, from the source's RGB to the edited RGB of the unchanged pixels.

    where: mask (H, W) of the pixels to look at; None for all.

    Reweighted least squares (Geman-McClure weights) on a small copy, without clipped pixels: first a gain and an offset
    a channel, from a wide scale to a narrow one, so that rare colours have their say; then what mixes channels, drawn
    to that. The identity where the map is none of a drift: then the images have little in common.
    """
    x, y = (_small_colours(image) for image in (source, edited))
    if where is not None:
        seen = cv2.resize(where.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA).ravel() > 0.99
        x, y = (x[seen], y[seen]) if seen.any() else (x, y)
    usable = ((np.minimum(x, y) > 2) & (np.maximum(x, y) < 253)).all(axis=1)
    if usable.mean() > 0.2:
        x, y = x[usable], y[usable]
    matrix: Matrix = np.eye(3)
    offset: Matrix = np.median(y - x, axis=0)
    for scale in FIT_SCALES_LEVELS:
        matrix, offset = _gains(x, y, _weights(x @ matrix + offset - y, scale))
    drawn_to = matrix
    for _ in range(5):
        residual = x @ matrix + offset - y
        scale = min(max(2.0 * float(np.median(np.sqrt(_squared_lengths(residual)))), 2.0), FIT_SCALES_LEVELS[-1])
        matrix, offset = _affine(x, y, _weights(residual, scale), drawn_to)
    strengths = np.linalg.svd(matrix, compute_uv=False)
    if strengths.min() < COLOUR_GAINS[0] or strengths.max() > COLOUR_GAINS[1]:
        return np.eye(3, 4)
    return np.column_stack([matrix.T, offset])


def equally_sharp(fitted: Float32, edited: Float32) -> tuple[Float32, Float32]:
    """Both images, the sharper one blurred to the other's sharpness where they differ as wholes: an encoder's doing."""
    before, after = (local_contrast(image[..., 0], 1.0) for image in (fitted, edited))
    shared = np.minimum(before, after)
    textured = shared > max(2.0, float(np.quantile(shared, 0.6)))
    if textured.mean() < 0.02:
        return fitted, edited
    ratio = float(np.median(after[textured] / np.maximum(before[textured], 0.5)))
    if abs(ratio - 1) < SHARPNESS_TOLERANCE:
        return fitted, edited
    sharp, soft = (fitted, edited) if ratio < 1 else (edited, fitted)
    nearest, least = sharp, _mean_misfit(sharp, soft)
    for sigma_px in BLUR_SIGMAS_PX:  # two at a time: together they would be the most memory that a comparison takes
        softened = blurred(sharp, sigma_px)
        if (misfit := _mean_misfit(softened, soft)) < least:
            nearest, least = softened, misfit
    return (nearest, edited) if ratio < 1 else (fitted, nearest)


def _mean_misfit(image: Float32, other: Float32) -> float:
    """Mean cut-off difference of the lightness of two images (H, W, C)."""
    return float(_cut_off(image[..., 0] - other[..., 0]).mean())


def _small_colours(image: Float32) -> NDArray[np.float64]:
    """The colours (4096, 3) of a 64 x 64 copy."""
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    return cast(NDArray[np.float64], small.reshape(-1, 3).astype(np.float64))


def _weights(residual: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    weight = 1 / np.square(1 + _squared_lengths(residual) / scale**2)
    return cast(NDArray[np.float64], weight / (weight.sum() + 1e-9))


def _squared_lengths(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) -> (N,): the same sums as along the axis, which takes more than twice as long."""
    squares = np.square(colours)
    return cast(NDArray[np.float64], squares[:, 0] + squares[:, 1] + squares[:, 2])


def _gains(x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[Matrix, Matrix]:
    """(diagonal matrix, offset): weighted gain and offset a channel, the gain drawn to 1 where a channel is flat."""
    x_mean, y_mean = weight @ x, weight @ y
    x_centred = x - x_mean
    gains = (weight @ (x_centred * (y - y_mean)) + GAIN_RIDGE) / (weight @ np.square(x_centred) + GAIN_RIDGE)
    matrix = np.asarray(gains * np.eye(3), dtype=np.float64)
    return matrix, y_mean - x_mean * gains


def _affine(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64], drawn_to: Matrix
) -> tuple[Matrix, Matrix]:
    """(matrix, offset): weighted affine map from x to y (both (N, 3)), drawn to a matrix where colours vary little."""
    x_mean, y_mean = weight @ x, weight @ y
    x_centred = x - x_mean
    weighted = (x_centred * weight[:, None]).T
    left = weighted @ x_centred + AFFINE_RIDGE * np.eye(3)
    matrix = np.asarray(np.linalg.solve(left, weighted @ (y - y_mean) + AFFINE_RIDGE * drawn_to), dtype=np.float64)
    return matrix, y_mean - x_mean @ matrix


def local_contrast(lightness: Float32, sigma_px: float) -> Float32:
    """Local standard deviation (H, W) of lightness, in its own unit."""
    contrast, mean = blurred(lightness * lightness, sigma_px), blurred(lightness, sigma_px)
    np.multiply(mean, mean, out=mean)  # in place all through: new arrays of millions take longer than the sums
    np.subtract(contrast, mean, out=contrast)
    np.maximum(contrast, 0, out=contrast)
    return np.sqrt(contrast, out=contrast)


def blurred(values: Float32, sigma_px: float) -> Float32:
    return cast(Float32, cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101))
