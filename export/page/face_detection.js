// Finds the faces in a photo: the same steps as cgan_tf.data.face_detection.

import { Cascade } from "./cascade.js";
import { mapOf, upright } from "./face_crop.js";
import { part, resized, rounded, toGray } from "./gray.js";
import {
  CROP_BELOW, CROP_SIDE, EYE_BOTTOM, EYE_DISTANCE, EYE_LEFTS, EYE_RATIO, EYE_SCALE, EYE_TOP, EYE_WIDTH,
  MARGIN, MAX_EYE_TILT, MAX_OVERLAP, MAX_PATCH_SHIFT, MAX_SEARCH_SIDE, MIN_DETECTIONS, MIN_EYE,
  MIN_NEIGHBORS, MIN_PATCH_SQUARE, MIN_SEARCH_SIDE, MIN_SQUARE, PATCH, PATCH_SIDE, SCALE, TILTS, TURNS,
} from "./rules.js";

/** @typedef {import("./face_crop.js").FaceBox} FaceBox */

/** Finds faces; holds the two cascades. */
export class FaceDetector {
  /** @param {{frontal: object, eye: object}} cascades content of cascades.json */
  constructor({ frontal, eye }) {
    this.frontal = new Cascade(frontal);
    this.eye = new Cascade(eye);
  }

  /**
   * The faces in a photo, largest first. Searches for upright and slightly tilted heads first; if there
   * are none, turns the photo by each of TILTS until a face is found.
   *
   * @param {{data: Uint8ClampedArray, width: number, height: number}} photo 4 bytes per pixel
   * @returns {FaceBox[]}
   */
  find(photo) {
    const { width, height } = photo;
    const scale = Math.min(
      MAX_SEARCH_SIDE / Math.max(width, height),
      Math.max(1, MIN_SEARCH_SIDE / Math.min(width, height)),
    );
    const [wide, high] = [width, height].map((side) => Math.max(1, rounded(side * scale)));
    const gray = resized(toGray(photo), wide, high);
    for (const tilt of [0, ...TILTS]) {
      const faces = this.search(gray, tilt);
      if (faces.length) {
        return faces
          .map(({ x, y, side, angle }) => ({ x: x / scale, y: y / scale, side: side / scale, angle }))
          .sort((a, b) => b.side - a.side);
      }
    }
    return [];
  }

  // The faces in a gray photo after turning it so that heads tilted by `tilt` are upright.
  search(gray, tilt) {
    const { width, height } = gray;
    const margin = MARGIN * Math.min(width, height);
    const [cos, sin] = [Math.abs(Math.cos(radians(tilt))), Math.abs(Math.sin(radians(tilt)))];
    const side = Math.max(width * cos + height * sin, width * sin + height * cos) + 2 * margin;
    const around = { x: width / 2, y: height / 2, side, angle: tilt };
    const image = squareOf(gray, around, rounded(side));
    const found = [];
    for (const [x, y, square] of this.frontal.detect(image, MIN_SQUARE, MIN_NEIGHBORS, SCALE)) {
      const face = this.refined(gray, inPhoto(around, x, y, square, side));
      if (face && !found.some((other) => overlap(face, other) > MAX_OVERLAP)) found.push(face);
    }
    return found;
  }

  // Refines a candidate with the detections in turned patches; undefined if they are too few.
  refined(gray, candidate) {
    let face = candidate;
    for (const turns of TURNS) {
      let total = 0;
      let [x, y, logSide, angle] = [0, 0, 0, 0];
      for (const turn of turns) {
        const side = (PATCH_SIDE * face.side) / CROP_SIDE;
        const around = { x: face.x, y: face.y, side, angle: face.angle + turn };
        const patch = squareOf(gray, around, PATCH);
        const detections = this.frontal.detect(patch, MIN_PATCH_SQUARE * PATCH, 1, SCALE);
        for (const [across, down, square, count] of detections) {
          const shift = Math.hypot(across - PATCH / 2, down - PATCH / 2);
          if (shift >= MAX_PATCH_SHIFT * PATCH) continue;
          const one = inPhoto(around, across, down, square, PATCH);
          total += count;
          x += one.x * count;
          y += one.y * count;
          logSide += Math.log(one.side) * count;
          angle += one.angle * count;
        }
      }
      if (total < MIN_DETECTIONS) return undefined;
      face = {
        x: x / total, y: y / total, side: Math.exp(logSide / total), angle: angle / total,
      };
    }
    return this.alignedByEyes(gray, face) ?? face;
  }

  // Corrects tilt and size; undefined unless both eyes are detected at plausible places.
  alignedByEyes(gray, face) {
    const crop = squareOf(gray, face, PATCH);
    const [top, bottom] = [Math.floor(EYE_TOP * PATCH), Math.floor(EYE_BOTTOM * PATCH)];
    const places = [];
    for (const share of EYE_LEFTS) {
      const left = Math.floor(share * PATCH);
      const area = part(crop, left, top, left + Math.floor(EYE_WIDTH * PATCH), bottom);
      const eyes = this.eye.detect(area, MIN_EYE * PATCH, MIN_NEIGHBORS, EYE_SCALE);
      if (!eyes.length) return undefined;
      const [x, y] = eyes.reduce((best, eye) => (eye[3] > best[3] ? eye : best));
      places.push([x + left, y + top]);
    }
    const [across, down] = [places[1][0] - places[0][0], places[1][1] - places[0][1]];
    const tilt = (Math.atan2(down, across) * 180) / Math.PI;
    const ratio = Math.hypot(across, down) / PATCH / EYE_DISTANCE;
    if (!(1 / EYE_RATIO < ratio && ratio < EYE_RATIO && Math.abs(tilt) < MAX_EYE_TILT)) return undefined;
    return { ...face, angle: face.angle + tilt, side: face.side * Math.sqrt(ratio) };
  }
}

function radians(degrees) {
  return (degrees * Math.PI) / 180;
}

function squareOf(gray, box, side) {
  return { data: upright(gray, box, side, 1), width: side, height: side };
}

// Where CelebA's crop of a detection lies in the photo.
//
// around: the box in which the cascade searched, resampled to side px; x, y, square: center and side
// of the detection in it, px.
function inPhoto(around, x, y, square, side) {
  const map = mapOf(around, side);
  const below = y + CROP_BELOW * square;
  return {
    x: map[0] * x + map[1] * below + map[2],
    y: map[3] * x + map[4] * below + map[5],
    side: (CROP_SIDE * square * around.side) / side,
    angle: around.angle,
  };
}

// Intersection over union of two boxes, ignoring their tilt.
function overlap(one, other) {
  const reach = (one.side + other.side) / 2;
  const along = (k) =>
    Math.max(0, Math.min(reach - Math.abs(one[k] - other[k]), one.side, other.side));
  const common = along("x") * along("y");
  return common / (one.side ** 2 + other.side ** 2 - common);
}
