// Gray images, {data, width, height} with one byte per pixel: made of photos, resized and turned, to
// the rounding of OpenCV's functions, so that the page and the commands find the same faces.

/** Rounds halves to the even neighbor. */
export function rounded(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

/**
 * @param {{data: Uint8ClampedArray, width: number, height: number}} photo 4 bytes per pixel
 * @returns {{data: Uint8Array, width: number, height: number}}
 */
export function toGray({ data, width, height }) {
  const gray = new Uint8Array(width * height);
  for (let to = 0, from = 0; to < gray.length; to++, from += 4) {
    gray[to] = (data[from] * 9798 + data[from + 1] * 19235 + data[from + 2] * 3735 + 16384) >> 15;
  }
  return { data: gray, width, height };
}

/** The part of a gray image with these corners; right and bottom are exclusive. */
export function part(gray, left, top, right, bottom) {
  const [width, height] = [right - left, bottom - top];
  const data = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const from = (top + y) * gray.width + left;
    data.set(gray.data.subarray(from, from + width), y * width);
  }
  return { data, width, height };
}

/** Resized: by the mean over areas to a smaller size, by cubic interpolation to a larger one. */
export function resized(gray, width, height) {
  if (width === gray.width && height === gray.height) return gray;
  const taps = width < gray.width || height < gray.height ? areaTaps : cubicTaps;
  const values = resample(gray.data, gray.width, taps(gray.width, width), taps(gray.height, height), 1);
  return { data: Uint8Array.from(Uint8ClampedArray.from(values)), width, height };
}

/** Resized by bilinear interpolation with the weights in multiples of 1/256. */
export function resizedLinear(gray, width, height) {
  if (width === gray.width && height === gray.height) return gray;
  const across = linearTaps(gray.width, width);
  const down = linearTaps(gray.height, height);
  const data = new Uint8Array(width * height);
  const rows = [new Uint16Array(width), new Uint16Array(width)];
  let held = -2; // the first of the two source rows in `rows`
  const fill = (row, y) => {
    for (let x = 0, from = y * gray.width; x < width; x++) {
      const low = from + across.low[x];
      const share = across.share[x];
      row[x] = gray.data[low] * (256 - share) + gray.data[from + across.high[x]] * share;
    }
  };
  for (let y = 0; y < height; y++) {
    if (down.low[y] !== held) {
      if (down.low[y] === held + 1) rows.reverse();
      else fill(rows[0], down.low[y]);
      fill(rows[1], down.high[y]);
      held = down.low[y];
    }
    const [share, to] = [down.share[y], y * width];
    const [upper, lower] = rows;
    for (let x = 0; x < width; x++) {
      data[to + x] = (upper[x] * (256 - share) + lower[x] * share + 32768) >>> 16;
    }
  }
  return { data, width, height };
}

// For each of count outputs: its two inputs, and the weight of the second in multiples of 1/256.
function linearTaps(size, count) {
  const taps = {
    low: new Int32Array(count), high: new Int32Array(count), share: new Int32Array(count),
  };
  for (let index = 0; index < count; index++) {
    const place = (index + 0.5) * (size / count) - 0.5;
    const low = Math.floor(place);
    taps.low[index] = Math.min(Math.max(low, 0), size - 1);
    taps.high[index] = Math.min(Math.max(low + 1, 0), size - 1);
    taps.share[index] = low < 0 || low >= size - 1 ? 0 : rounded((place - low) * 256);
  }
  return taps;
}

/**
 * Values resampled along both axes.
 *
 * @param {ArrayLike<number>} values rows of width * channels numbers
 * @param {number} width
 * @param {{start: number, factors: number[]}[]} across for each column of the result: its first
 *   input, and the factors of the inputs
 * @param {{start: number, factors: number[]}[]} down likewise, for each row
 * @param {number} channels
 * @returns {Float32Array}
 */
export function resample(values, width, across, down, channels) {
  const height = values.length / (width * channels);
  const row = across.length * channels;
  const narrow = new Float32Array(height * row);
  for (let y = 0; y < height; y++) {
    for (let x = 0, to = y * row; x < across.length; x++) {
      const { start, factors } = across[x];
      for (let c = 0; c < channels; c++, to++) {
        let sum = 0;
        for (let k = 0, at = (y * width + start) * channels + c; k < factors.length; k++) {
          sum += factors[k] * values[at];
          at += channels;
        }
        narrow[to] = sum;
      }
    }
  }
  const result = new Float32Array(down.length * row);
  for (let y = 0; y < down.length; y++) {
    const { start, factors } = down[y];
    for (let x = 0; x < row; x++) {
      let sum = 0;
      for (let k = 0; k < factors.length; k++) sum += factors[k] * narrow[(start + k) * row + x];
      result[y * row + x] = sum;
    }
  }
  return result;
}

/** For `resample`: the mean over the inputs that each output covers. */
function areaTaps(size, count) {
  const step = size / count;
  return Array.from({ length: count }, (_, index) => {
    const [from, to] = [index * step, Math.min((index + 1) * step, size)];
    const start = Math.floor(from + 1e-3);
    const end = Math.max(Math.ceil(to - 1e-3), start + 1);
    const factors = [];
    for (let k = start; k < end; k++) {
      factors.push((Math.min(k + 1, to) - Math.max(k, from)) / (to - from));
    }
    return { start, factors };
  });
}

/** For `resample`: cubic interpolation; beyond the ends they are repeated. */
export function cubicTaps(size, count) {
  const SHARPNESS = -0.75;
  const near = (x) => ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1; // up to a distance of 1
  const far = (x) => ((x - 5) * x + 8) * x * SHARPNESS - 4 * SHARPNESS; // from 1 to 2
  return Array.from({ length: count }, (_, index) => {
    const place = (index + 0.5) * (size / count) - 0.5;
    const low = Math.floor(place);
    const share = place - low;
    const weights = [far(1 + share), near(share), near(1 - share), far(2 - share)];
    const inside = weights.map((_, k) => Math.min(Math.max(low - 1 + k, 0), size - 1));
    const start = inside[0];
    const factors = new Array(inside[3] - start + 1).fill(0);
    for (const [k, weight] of weights.entries()) factors[inside[k] - start] += weight;
    return { start, factors };
  });
}

/**
 * The square that an affine map takes from an image, with bilinear interpolation; beyond the image
 * its edge is repeated.
 *
 * @param {{data: ArrayLike<number>, width: number, height: number}} image bytes
 * @param {number[]} map from the square's pixel indices to the image's: x = m[0] x + m[1] y + m[2],
 *   y = m[3] x + m[4] y + m[5]
 * @param {number} side of the square, px
 * @param {number} channels bytes per pixel
 * @returns {Uint8ClampedArray}
 */
export function warped({ data, width, height }, map, side, channels) {
  const square = new Uint8ClampedArray(side * side * channels);
  const fixed = (value) => rounded(value * 1024);
  const [acrossX, acrossY] = [0, 3].map((k) =>
    Int32Array.from({ length: side }, (_, x) => fixed(map[k] * x)),
  );
  for (let y = 0, to = 0; y < side; y++) {
    const startX = fixed(map[1] * y + map[2]) + 16;
    const startY = fixed(map[4] * y + map[5]) + 16;
    for (let x = 0; x < side; x++) {
      // Positions are multiples of 1/32 px.
      const [fromX, fromY] = [(startX + acrossX[x]) >> 5, (startY + acrossY[x]) >> 5];
      const [left, top] = [fromX >> 5, fromY >> 5];
      const [shareX, shareY] = [fromX & 31, fromY & 31];
      const x0 = Math.min(Math.max(left, 0), width - 1);
      const x1 = Math.min(Math.max(left + 1, 0), width - 1);
      const y0 = Math.min(Math.max(top, 0), height - 1) * width;
      const y1 = Math.min(Math.max(top + 1, 0), height - 1) * width;
      const [a, b, c, d] = [y0 + x0, y0 + x1, y1 + x0, y1 + x1];
      for (let k = 0; k < channels; k++, to++) {
        const upper = data[a * channels + k] * (32 - shareX) + data[b * channels + k] * shareX;
        const lower = data[c * channels + k] * (32 - shareX) + data[d * channels + k] * shareX;
        square[to] = (upper * (32 - shareY) + lower * shareY + 512) >> 10;
      }
    }
  }
  return square;
}
