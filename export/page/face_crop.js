// The square around a face in a photo: cropping it, and pasting the edited face back.
//
// The same as cgan_tf.data.face_crop. A box is {x, y, side, angle}: the center and the side of the
// square in px of the photo, from its corner, and the clockwise tilt of the head in degrees.

import { cubicTaps, resample, warped } from "./gray.js";
import { cutSquare, layerOf, softMask, toFloat } from "./pixels.js";
import { SOLID, SOLID_DIFFERENCE } from "./rules.js";

/** @typedef {{x: number, y: number, side: number, angle: number}} FaceBox */

/**
 * The affine map from a box, upright with `side` px, to the photo, in px from the corner: the six
 * numbers that `warped` takes.
 */
export function mapOf({ x, y, side: length, angle }, side) {
  const scale = length / side;
  const radians = (angle * Math.PI) / 180;
  const [cos, sin] = [Math.cos(radians) * scale, Math.sin(radians) * scale];
  const half = side / 2;
  return [cos, -sin, x - (cos - sin) * half, sin, cos, y - (sin + cos) * half];
}

/** As `mapOf`, between the indices of pixels, whose centers are half a px further. */
export function pixelMapOf(box, side) {
  const map = mapOf(box, side);
  map[2] += (map[0] + map[1]) / 2 - 0.5;
  map[5] += (map[3] + map[4]) / 2 - 0.5;
  return map;
}

/** The box upright, with `side` px: bytes of an image with `channels` bytes per pixel. */
export function upright(image, box, side, channels) {
  return warped(image, pixelMapOf(box, side), side, channels);
}

/**
 * The face upright, as the model sees it.
 *
 * @param {ImageData} photo
 * @param {FaceBox} box
 * @param {number} resolution
 * @returns {Float32Array} resolution * resolution * 3 floats in [-1, 1]
 */
export function cropFace(photo, box, resolution) {
  const side = Math.max(resolution, Math.ceil(box.side));
  const square = { data: upright(photo, box, side, 4), width: side, height: side };
  return toFloat(cutSquare(square, { left: 0, top: 0, side }, resolution));
}

/**
 * The part of a photo that a box covers, {left, top, width, height} in px; undefined if it is none.
 *
 * @param {{width: number, height: number}} photo
 * @param {FaceBox} box
 */
export function regionOf(photo, box) {
  const map = mapOf(box, 1);
  const corners = [[0, 0], [1, 0], [0, 1], [1, 1]].map(([x, y]) => [
    map[0] * x + map[1] * y + map[2], map[3] * x + map[4] * y + map[5],
  ]);
  const range = (k, size) => {
    const places = corners.map((corner) => corner[k]);
    const low = Math.min(Math.max(Math.floor(Math.min(...places)), 0), size);
    const high = Math.min(Math.max(Math.ceil(Math.max(...places)), 0), size);
    return [low, high - low];
  };
  const [left, width] = range(0, photo.width);
  const [top, height] = range(1, photo.height);
  return width && height ? { left, top, width, height } : undefined;
}

/**
 * Blends an edited face into a photo, at a soft border.
 *
 * @param {ImageData} photo is changed
 * @param {FaceBox} box where the face was cropped
 * @param {Float32Array} edited the model's image, resolution * resolution * 3 floats in [-1, 1]
 * @param {Float32Array} [before] the model's image without the edit; if given, the photo keeps its
 *   own detail wherever the edit leaves it in place
 * @param {boolean} [gray] whether the photo has no color; then the face gets none either
 * @returns {{left: number, top: number, width: number, height: number} | undefined} the changed part
 */
export function pasteFace(photo, box, edited, before, gray = isGray(photo)) {
  const region = regionOf(photo, box);
  if (!region) return undefined;
  const resolution = Math.sqrt(edited.length / 3);
  const side = Math.max(resolution, Math.ceil(box.side));
  const mask = softMask(side, before ? SOLID_DIFFERENCE : SOLID);
  const taps = cubicTaps(resolution, side);
  const layer = resample(layerOf(edited, before, resolution), resolution, taps, taps, 4);
  const back = inverse(pixelMapOf(box, side));
  const { data } = photo;
  for (let row = 0; row < region.height; row++) {
    const y = region.top + row;
    for (let x = region.left; x < region.left + region.width; x++) {
      const across = back[0] * x + back[1] * y + back[2];
      const down = back[3] * x + back[4] * y + back[5];
      const [left, top] = [Math.floor(across), Math.floor(down)];
      if (left < -1 || top < -1 || left >= side || top >= side) continue;
      const [shareX, shareY] = [across - left, down - top];
      const between = (a, b, c, d) =>
        (a * (1 - shareX) + b * shareX) * (1 - shareY) + (c * (1 - shareX) + d * shareX) * shareY;
      const x0 = Math.max(left, 0);
      const x1 = Math.min(left + 1, side - 1);
      const y0 = Math.max(top, 0) * side;
      const y1 = Math.min(top + 1, side - 1) * side;
      const weight = between(
        x0 === left && y0 === top * side ? mask[y0 + x0] : 0, // beyond its edge the mask is 0
        x1 > left && y0 === top * side ? mask[y0 + x1] : 0,
        x0 === left && y1 > top * side ? mask[y1 + x0] : 0,
        x1 > left && y1 > top * side ? mask[y1 + x1] : 0,
      );
      if (weight === 0) continue;
      const at = (y * photo.width + x) * 4;
      const value = (k) =>
        between(
          layer[(y0 + x0) * 4 + k], layer[(y0 + x1) * 4 + k],
          layer[(y1 + x0) * 4 + k], layer[(y1 + x1) * 4 + k],
        );
      const replaced = value(3);
      for (let k = 0; k < 3; k++) {
        data[at + k] += weight * (value(k) - replaced * data[at + k]); // rounded and clipped
      }
      if (gray) {
        const luma = data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471;
        data.fill((luma + 32768) >> 16, at, at + 3);
      }
    }
  }
  return region;
}

function inverse([a, b, e, c, d, f]) {
  const area = a * d - b * c;
  return [
    d / area, -b / area, (b * f - d * e) / area,
    -c / area, a / area, (c * e - a * f) / area,
  ];
}

/** Whether a photo has no color. */
export function isGray({ data }) {
  for (let at = 0; at < data.length; at += 4) {
    if (data[at] !== data[at + 1] || data[at] !== data[at + 2]) return false;
  }
  return true;
}
