// Haar cascades (Viola & Jones 2001, Lienhart & Maydt 2002): the windows of a gray image that look
// like a face or an eye.
//
// The same steps as OpenCV's CascadeClassifier.detectMultiScale2, to the rounding of each number,
// so that the page and the commands find the same faces.
//
// A gray image is {data, width, height} with one byte per pixel.

import { resizedLinear, rounded } from "./gray.js";

const { fround } = Math;
const STAGE_TOLERANCE = 1e-5; // subtracted from the stages' thresholds
const SIMILAR = 0.2; // maximum distance of the edges of similar windows, fraction of their sides
const STRIPE = 32; // columns for which OpenCV starts one more thread
const CORNERS = 12; // of the three rectangles of a feature

/** A cascade, ready to be evaluated. */
export class Cascade {
  /**
   * @param {object} content one cascade of cascades.json; see export/face_rules.py
   */
  constructor({ side, stages, trees, nodes, leaves, features }) {
    this.side = side; // of a window, px
    this.stageTrees = Int32Array.from(stages, ([count]) => count);
    this.stageThresholds = Float64Array.from(stages, ([, threshold]) =>
      fround(fround(threshold) - fround(STAGE_TOLERANCE)),
    );
    this.trees = Int32Array.from(trees); // number of nodes of each tree
    // A node is [feature, threshold, left, right]; a child that is not positive is minus a leaf.
    this.thresholds = Float64Array.from(nodes, ([, threshold]) => fround(threshold));
    this.nodeFeatures = Int32Array.from(nodes, ([feature]) => feature);
    this.children = Int32Array.from(nodes.flatMap(([, , left, right]) => [left, right]));
    this.leaves = Float64Array.from(leaves, fround);
    this.features = features; // [tilted, [x, y, width, height, weight], ...]
    this.weights = new Float64Array(3 * features.length);
    for (const [index, [, ...rectangles]] of features.entries()) {
      for (const [k, rectangle] of rectangles.entries()) {
        this.weights[3 * index + k] = fround(rectangle[4]);
      }
    }
    this.tilted = features.some(([tilted]) => tilted);
    this.offsets = new Int32Array(CORNERS * features.length);
    this.sums = { stride: 0, size: 0 }; // integral images, see `integrate`
  }

  /**
   * The windows that look like a face, in groups of similar ones.
   *
   * @param {{data: Uint8Array, width: number, height: number}} gray
   * @param {number} least minimum side of a window, px
   * @param {number} neighbors groups of so many windows or fewer are left out
   * @param {number} scale ratio of successive sizes
   * @returns {[number, number, number, number][]} center x, center y and side in px, and number of
   *   windows, sorted
   */
  detect(gray, least, neighbors, scale) {
    const smallest = Math.max(8, rounded(least));
    if (Math.min(gray.width, gray.height) < smallest) return [];
    const scales = [];
    for (let factor = 1; ; factor *= scale) {
      const side = rounded(this.side * factor);
      if (side > gray.width || side > gray.height) break;
      if (rounded(this.side * fround(factor)) >= smallest) scales.push(fround(factor));
    }
    this.prepare(gray);
    const stripes = Math.ceil((rounded(gray.width / scales[0]) - this.side + 1) / STRIPE);
    return grouped(scales.flatMap((each) => this.search(gray, each, stripes)), neighbors);
  }

  // The windows at one scale: [x, y, side]. OpenCV divides the rows among threads, in stripes of full
  // steps, and so may leave out the last row.
  search(gray, scale, stripes) {
    const windows = [];
    const [width, height] = [rounded(gray.width / scale), rounded(gray.height / scale)];
    const [across, down] = [width - this.side + 1, height - this.side + 1]; // numbers of places
    const side = rounded(this.side * scale);
    const step = scale >= 2 ? 1 : 2;
    const rows = Math.floor((Math.floor(down / step) + stripes - 1) / stripes) * step;
    const end = Math.min(down, stripes * Math.max(rows, step));
    integrate(resizedLinear(gray, width, height), this.sums, this.tilted);
    for (let y = 0; y < end; y += step) {
      for (let x = 0; x < across; x += step) {
        const passed = this.stagesPassed(this.sums, y * this.sums.stride + x);
        if (passed === this.stageTrees.length) {
          windows.push([rounded(fround(x * scale)), rounded(fround(y * scale)), side]);
        }
        if (passed === 0) x += step; // nothing like a face: its neighbor is not either
      }
    }
    return windows;
  }

  // Makes the integral images for all scales of a gray image, and the features' offsets into them.
  prepare({ width, height }) {
    const [stride, size] = [width + 1, (width + 1) * (height + 1)];
    if (stride === this.sums.stride && size === this.sums.size) return;
    const sum = new Int32Array(this.tilted ? 2 * size : size);
    this.sums = { sum, squares: new Int32Array(size), stride, size };
    const at = (x, y) => y * stride + x;
    for (const [index, [tilted, ...rectangles]] of this.features.entries()) {
      for (const [k, [x, y, w, h]] of rectangles.entries()) {
        const corners = tilted
          ? [at(x, y), at(x - h, y + h), at(x + w, y + w), at(x + w - h, y + w + h)]
          : [at(x, y), at(x + w, y), at(x, y + h), at(x + w, y + h)];
        const offset = tilted ? size : 0;
        this.offsets.set(corners.map((corner) => corner + offset), CORNERS * index + 4 * k);
      }
    }
  }

  // Number of stages that a window passes, whose first pixel is `from` in the integral images; -1 if
  // it is as good as uniform.
  stagesPassed({ sum, squares, stride }, from) {
    const { offsets, weights, trees, thresholds, nodeFeatures, children, leaves } = this;
    const { stageTrees, stageThresholds } = this;
    const inner = this.side - 2; // a border of 1 px is left out
    const first = from + stride + 1;
    const last = first + inner * stride;
    const total = sum[first] - sum[first + inner] - sum[last] + sum[last + inner];
    // The sums of squares wrap around at 2 ** 32, their differences do not.
    const square =
      (squares[first] - squares[first + inner] - squares[last] + squares[last + inner]) >>> 0;
    const area = inner * inner;
    const variance = area * square - total * total;
    if (variance <= 0) return -1;
    const norm = fround(1 / Math.sqrt(variance));
    if (area * norm >= 0.1) return -1;
    let [tree, node, leaf] = [0, 0, 0];
    for (let stage = 0; stage < stageTrees.length; stage++) {
      let score = 0;
      for (const end = tree + stageTrees[stage]; tree < end; tree++) {
        let index = 0;
        do {
          const at = CORNERS * nodeFeatures[node + index];
          const weight = 3 * nodeFeatures[node + index];
          let value =
            weights[weight] *
              (sum[from + offsets[at]] - sum[from + offsets[at + 1]] -
                sum[from + offsets[at + 2]] + sum[from + offsets[at + 3]]) +
            weights[weight + 1] *
              (sum[from + offsets[at + 4]] - sum[from + offsets[at + 5]] -
                sum[from + offsets[at + 6]] + sum[from + offsets[at + 7]]);
          if (weights[weight + 2] !== 0) {
            value +=
              weights[weight + 2] *
              (sum[from + offsets[at + 8]] - sum[from + offsets[at + 9]] -
                sum[from + offsets[at + 10]] + sum[from + offsets[at + 11]]);
          }
          const right = fround(fround(value) * norm) < thresholds[node + index] ? 0 : 1;
          index = children[2 * (node + index) + right];
        } while (index > 0);
        score += leaves[leaf - index];
        node += trees[tree];
        leaf += trees[tree] + 1;
      }
      if (score < stageThresholds[stage]) return stage;
    }
    return stageTrees.length;
  }
}

// Computes the integral images of a gray image: of the levels, and behind them, if needed, of the levels
// in rectangles turned by 45 degrees; and of the squared levels. Their first row and column stay 0.
//
// sums: {sum, squares, stride, size}; stride: of their rows, size: of one of them, at least the image's.
function integrate({ data, width, height }, { sum, squares, stride, size }, tilted) {
  for (let y = 0, from = 0; y < height; y++) {
    let [levels, squared] = [0, 0];
    for (let x = 0, to = (y + 1) * stride + 1; x < width; x++, from++, to++) {
      const level = data[from];
      levels += level;
      squared += level * level;
      sum[to] = sum[to - stride] + levels;
      squares[to] = squares[to - stride] + squared;
    }
  }
  if (tilted) {
    // At (x, y): the sum of the pixels above y within the cone that opens upwards from (x - 1, y - 1).
    const level = (x, y) => (x < 0 || x >= width || y < 0 ? 0 : data[y * width + x]);
    const cone = (x, y) => sum[size + y * stride + x];
    for (let y = 1; y <= height; y++) {
      for (let x = 0; x <= width; x++) {
        let value = level(x - 1, y - 1);
        if (y > 1) {
          value += level(x - 1, y - 2);
          // The two cones beside it overlap in the one above it. Beyond the image's sides, a cone is
          // one of the row above, seen from its own side.
          const left = x > 0 ? cone(x - 1, y - 1) : cone(0, y - 2);
          const right = x < width ? cone(x + 1, y - 1) : cone(width, y - 2);
          value += left + right - cone(x, y - 2);
        }
        sum[size + y * stride + x] = value;
      }
    }
  }
}

// Similar windows as one, in the form that `detect` returns.
function grouped(windows, neighbors) {
  const groups = clusters(windows)
    .map((members) => {
      const mean = (k) => {
        const total = members.reduce((sum, window) => sum + window[k], 0);
        return rounded(fround(total * fround(1 / members.length)));
      };
      return { x: mean(0), y: mean(1), side: mean(2), count: members.length };
    })
    .filter(({ count }) => count > neighbors);
  // A group inside another one is left out, unless it has at least as many members.
  const within = (one, other) => {
    const margin = rounded(other.side * SIMILAR);
    return (
      one.x >= other.x - margin &&
      one.y >= other.y - margin &&
      one.x + one.side <= other.x + other.side + margin &&
      one.y + one.side <= other.y + other.side + margin &&
      (other.count > Math.max(3, one.count) || one.count < 3)
    );
  };
  return groups
    .filter((one) => !groups.some((other) => other !== one && within(one, other)))
    .map(({ x, y, side, count }) => [x + side / 2, y + side / 2, side, count])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || a[3] - b[3]);
}

// Lists of windows that are connected by similarity.
function clusters(windows) {
  const found = [];
  const left = new Set(windows);
  for (const start of windows) {
    if (!left.delete(start)) continue;
    const members = [start];
    for (const member of members) {
      for (const other of left) {
        if (similar(member, other)) {
          left.delete(other);
          members.push(other);
        }
      }
    }
    found.push(members);
  }
  return found;
}

function similar([x, y, side], [otherX, otherY, otherSide]) {
  const delta = SIMILAR * Math.min(side, otherSide);
  return (
    Math.abs(x - otherX) <= delta &&
    Math.abs(y - otherY) <= delta &&
    Math.abs(x + side - otherX - otherSide) <= delta &&
    Math.abs(y + side - otherY - otherSide) <= delta
  );
}
