// Pixel arithmetic: the model's input from a photo, and the displayed image from its output.
//
// The same as in cgan_tf.data.images and cgan_tf.data.portraits, so that the page and the commands
// give the same results.

const LOBES = 3; // of the Lanczos filter
const SOLID = 0.85; // fraction of the way to the edge within which an edit's difference is not attenuated

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

// The photo's square plus only the difference that an edit makes to the model's image, so that the
// photo keeps its own detail: ImageData of crop's size.
//
// crop: ImageData of the square; edited, before: the model's images, floats with 3 channels and
// resolution * resolution pixels; mask: softMask(crop.width).
export function addDifference(crop, edited, before, resolution, mask) {
  const side = crop.width;
  const result = new ImageData(side, side);
  const taps = between(side, resolution);
  const row = new Float32Array(resolution * 3); // the difference in one of crop's rows
  for (let y = 0; y < side; y++) {
    const [above, below, share] = taps[y];
    const [upper, lower] = [above * resolution * 3, below * resolution * 3];
    for (let x = 0; x < row.length; x++) {
      const top = edited[upper + x] - before[upper + x];
      const bottom = edited[lower + x] - before[lower + x];
      row[x] = (top + (bottom - top) * share) * 127.5;
    }
    for (let x = 0, at = y * side * 4; x < side; x++, at += 4) {
      const [left, right, part] = taps[x];
      const weight = mask[y * side + x];
      for (let c = 0; c < 3; c++) {
        const near = row[left * 3 + c];
        const change = near + (row[right * 3 + c] - near) * part;
        result.data[at + c] = crop.data[at + c] + weight * change;
      }
      result.data[at + 3] = 255;
    }
  }
  return result;
}

// A direction's footprint, decoded from base64: resolution * resolution levels, 255 for 1.
export function levelsOf(text) {
  return Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0));
}

// Where an edit acts, resolution * resolution floats from 0 to 1; undefined if the description has
// no footprints. levels: footprints of the active directions, see levelsOf.
export function footprintOf(levels) {
  if (!levels.length || levels.includes(undefined)) return undefined;
  return Float32Array.from(levels[0], (_, index) =>
    Math.max(...levels.map((level) => level[index])) / 255);
}

// The edited image, unchanged where the footprint is 0; both images have 3 floats per pixel.
export function confine(edited, before, footprint) {
  return edited.map((value, index) =>
    before[index] + footprint[Math.floor(index / 3)] * (value - before[index]));
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

// 1 in the middle of a square, falling smoothly to 0 at its edge: side * side floats.
export function softMask(side) {
  const mask = new Float32Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const [across, down] = [((x + 0.5) / side) * 2 - 1, ((y + 0.5) / side) * 2 - 1];
      const far = (across ** 4 + down ** 4) ** 0.25; // between a circle and a square
      const share = Math.min(Math.max((1 - far) / (1 - SOLID), 0), 1);
      mask[y * side + x] = share * share * (3 - 2 * share);
    }
  }
  return mask;
}
