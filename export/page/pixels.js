// Pixel arithmetic: the model's input from a photo, and the displayed image from its output.
//
// The same as in cgan_tf.data (images, portraits, face_crop), so that the page and the commands
// give the same results.

import { LARGE_CHANGE, REACH, SMALL_CHANGE, SOLID_DIFFERENCE } from "./rules.js";

const LOBES = 3; // of the Lanczos filter

// A square of a photo, resampled as Pillow does with LANCZOS and a box: antialiased, two passes with
// rounding between them. photo is {data, width, height} with 4 bytes per pixel; the square may start
// between pixels. Returns resolution * resolution * 3 bytes.
export function cutSquare(photo, { left, top, side }, resolution) {
  const across = weights(photo.width, left, side, resolution);
  const down = weights(photo.height, top, side, resolution);
  const first = down[0].start;
  const last = down[resolution - 1].start + down[resolution - 1].factors.length;
  const narrow = new Uint8ClampedArray((last - first) * resolution * 3); // rounds and clips
  for (let y = first; y < last; y++) {
    for (let x = 0; x < resolution; x++) {
      const { start, factors } = across[x];
      let [red, green, blue] = [0, 0, 0];
      for (let k = 0, at = (y * photo.width + start) * 4; k < factors.length; k++, at += 4) {
        red += factors[k] * photo.data[at];
        green += factors[k] * photo.data[at + 1];
        blue += factors[k] * photo.data[at + 2];
      }
      narrow.set([red, green, blue], ((y - first) * resolution + x) * 3);
    }
  }
  const row = resolution * 3;
  const square = new Uint8ClampedArray(resolution * row);
  for (let y = 0; y < resolution; y++) {
    const { start, factors } = down[y];
    for (let x = 0; x < row; x++) {
      let sum = 0;
      for (let k = 0; k < factors.length; k++) {
        sum += factors[k] * narrow[(start - first + k) * row + x];
      }
      square[y * row + x] = sum;
    }
  }
  return square;
}

// For each of count outputs along one axis: the first input, and the factors of the inputs.
function weights(size, from, length, count) {
  const step = length / count;
  const stretch = Math.max(step, 1); // a wider filter when reducing, for antialiasing
  return Array.from({ length: count }, (_, index) => {
    const center = from + (index + 0.5) * step;
    const start = Math.max(0, Math.floor(center - LOBES * stretch + 0.5));
    const end = Math.min(size, Math.floor(center + LOBES * stretch + 0.5));
    const factors = new Float64Array(end - start);
    for (let k = 0; k < factors.length; k++) {
      factors[k] = lanczos((start + k - center + 0.5) / stretch);
    }
    const sum = factors.reduce((a, b) => a + b, 0);
    return { start, factors: factors.map((factor) => factor / sum) };
  });
}

function lanczos(x) {
  if (x === 0) return 1;
  if (Math.abs(x) >= LOBES) return 0;
  const turn = Math.PI * x;
  return (LOBES * Math.sin(turn) * Math.sin(turn / LOBES)) / (turn * turn);
}

// Bytes -> the model's floats in [-1, 1].
export function toFloat(bytes) {
  return Float32Array.from(bytes, (byte) => Math.fround(byte / 127.5) - 1);
}

// The model's image, floats or bytes with 3 channels, as ImageData.
export function toImageData(values, side) {
  const image = new ImageData(side, side);
  const floats = values instanceof Float32Array;
  for (let from = 0, to = 0; from < values.length; from += 3, to += 4) {
    for (let c = 0; c < 3; c++) {
      const value = values[from + c];
      image.data[to + c] = floats ? (value + 1) * 127.5 : value; // rounded and clipped on assignment
    }
    image.data[to + 3] = 255;
  }
  return image;
}

// The photo's square after an edit, with the photo's own detail wherever the edit leaves it in place:
// ImageData of crop's size. The same as cgan_tf.data.face_crop.keep_detail.
//
// crop: ImageData of the square; edited, before: the model's images, floats with 3 channels and
// resolution * resolution pixels; mask: softMask(crop.width).
export function keepDetail(crop, edited, before, resolution, mask) {
  const side = crop.width;
  const result = new ImageData(side, side);
  const layer = layerOf(edited, before, resolution);
  const taps = between(side, resolution);
  const row = new Float32Array(resolution * 4); // the layer in one of crop's rows
  for (let y = 0; y < side; y++) {
    const [above, below, share] = taps[y];
    const [upper, lower] = [above * row.length, below * row.length];
    for (let x = 0; x < row.length; x++) {
      row[x] = layer[upper + x] + (layer[lower + x] - layer[upper + x]) * share;
    }
    for (let x = 0, at = y * side * 4; x < side; x++, at += 4) {
      const [left, right, part] = [taps[x][0] * 4, taps[x][1] * 4, taps[x][2]];
      const weight = mask[y * side + x];
      const replaced = row[left + 3] + (row[right + 3] - row[left + 3]) * part;
      for (let c = 0; c < 3; c++) {
        const level = row[left + c] + (row[right + c] - row[left + c]) * part;
        const old = crop.data[at + c];
        result.data[at + c] = old + weight * (level - replaced * old);
      }
      result.data[at + 3] = 255;
    }
  }
  return result;
}

// The levels that an edit adds to the photo, and as a fourth channel the share of the photo's levels
// that it takes away: 4 floats per pixel. Without `before` the edited image replaces the photo.
export function layerOf(edited, before, resolution) {
  const replacing = new Float32Array(resolution * resolution).fill(1);
  const shares = before ? replacedShare(edited, before, resolution) : replacing;
  const layer = new Float32Array(shares.length * 4);
  for (let pixel = 0; pixel < shares.length; pixel++) {
    const share = shares[pixel];
    for (let c = 0; c < 3; c++) {
      const after = edited[pixel * 3 + c];
      const old = before ? before[pixel * 3 + c] : after;
      layer[pixel * 4 + c] = (after - old + share * (old + 1)) * 127.5;
    }
    layer[pixel * 4 + 3] = share;
  }
  return layer;
}

// How much of the photo's own detail an edit replaces, 0 to 1: resolution * resolution floats.
function replacedShare(edited, before, resolution) {
  const change = Float32Array.from({ length: resolution * resolution }, (_, pixel) => {
    let sum = 0;
    for (let at = pixel * 3; at < pixel * 3 + 3; at++) sum += Math.abs(edited[at] - before[at]);
    return sum / 3;
  });
  const near = averages(averages(change, resolution), resolution);
  return near.map((value) => smoothstep((value - SMALL_CHANGE) / (LARGE_CHANGE - SMALL_CHANGE)));
}

// Weighted means along the rows of a square, transposed: applied twice, it blurs the square.
function averages(square, side) {
  const reach = Math.max(REACH * side, 1);
  const result = new Float32Array(square.length);
  for (let x = 0; x < side; x++) {
    const first = Math.max(0, Math.ceil(x - reach));
    const last = Math.min(side - 1, Math.floor(x + reach));
    for (let y = 0; y < side; y++) {
      let [sum, total] = [0, 0];
      for (let other = first; other <= last; other++) {
        const weight = 1 - Math.abs(other - x) / reach;
        sum += weight * square[y * side + other];
        total += weight;
      }
      result[x * side + y] = sum / total;
    }
  }
  return result;
}

function smoothstep(value) {
  const inside = Math.min(Math.max(value, 0), 1);
  return inside * inside * (3 - 2 * inside);
}

// For each of side pixels: its two neighbors among resolution pixels, and the second's weight.
function between(side, resolution) {
  return Array.from({ length: side }, (_, index) => {
    const place = ((index + 0.5) * resolution) / side - 0.5;
    const inside = Math.min(Math.max(place, 0), resolution - 1);
    const low = Math.min(Math.floor(inside), resolution - 2);
    return [low, low + 1, inside - low];
  });
}

// 1 up to `solid` of the way to the edge of a square, falling smoothly to 0 there: side * side floats.
export function softMask(side, solid = SOLID_DIFFERENCE) {
  const mask = new Float32Array(side * side);
  const powers = Float64Array.from({ length: side }, (_, x) => (((x + 0.5) / side) * 2 - 1) ** 4);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const far = Math.sqrt(Math.sqrt(powers[x] + powers[y])); // between a circle and a square
      mask[y * side + x] = smoothstep((1 - far) / (1 - solid));
    }
  }
  return mask;
}
