// The faces of a photo: the square of each is encoded once, and each edit is generated from that code.
//
// A photo is {canvas, data, width, height}, see photo.js, and the code of a face that the model made
// up, see sample.js. Frames, see frame.js, and faces, {frame, strengths}, are never changed, only
// replaced; strengths are by the attribute's index.

import { cropFace, isGray, pasteFace, upright } from "./face_crop.js";
import { boxOf } from "./frame.js";
import { sampleCode } from "./sample.js";
import { cutSquare, keepDetail, softMask, toFloat, toImageData } from "./pixels.js";

const DETAIL = 768; // maximum size in px of the images that keep the photo's detail

export class FaceEditor {
  constructor(model, description) {
    this.model = model;
    this.description = description;
    this.encoded = new WeakMap(); // by frame
    this.edited = new WeakMap(); // the model's images, by face
    this.sharp = {}; // the latest square at the photo's resolution: {frame, crop, mask}
  }

  // The framed square: {input, code, rebuilt}, floats. code: the latent, and the features if the
  // model has them; rebuilt: the unedited image.
  async encode(photo, frame) {
    if (!this.encoded.has(frame)) {
      const input = inputOf(photo, frame, this.description.resolution);
      const code = photo.code ?? (await this.model.run("encode", { image: input }));
      this.encoded.set(frame, { input, code, rebuilt: await this.generate(code) });
    }
    return this.encoded.get(frame);
  }

  // The model's image of an edited face.
  async image(photo, face) {
    if (!this.edited.has(face)) {
      const { code } = await this.encode(photo, face.frame);
      this.edited.set(face, await this.generate(code, face.strengths));
    }
    return this.edited.get(face);
  }

  // The framed square before and after an edit: ImageData of the same size.
  //
  // detail: whether to keep the photo's own.
  async edit(photo, face, detail) {
    const { frame } = face;
    const { resolution } = this.description;
    const { input, rebuilt } = await this.encode(photo, frame);
    const edited = await this.image(photo, face);
    if (!detail) {
      return { before: toImageData(input, resolution), after: toImageData(edited, resolution) };
    }
    if (this.sharp.frame !== frame) this.sharp = { frame, ...sharpSquare(photo, frame, resolution) };
    const { crop, mask } = this.sharp;
    return { before: crop, after: keepDetail(crop, edited, rebuilt, resolution, mask) };
  }

  // The photo with all its faces edited, ImageData: each pasted by the rules of cgan translate, in
  // their order. A face without an edit stays as it is.
  //
  // target: {data, width, height}, the photo itself or the same in another size.
  async editAll(photo, faces, detail, target = photo) {
    const { width, height } = target;
    const result = new ImageData(new Uint8ClampedArray(target.data), width, height);
    const gray = isGray(target);
    const scale = width / photo.width;
    for (const face of faces) {
      if (!face.strengths.some(Boolean)) continue;
      const { rebuilt } = await this.encode(photo, face.frame);
      const { x, y, side, angle } = boxOf(face.frame);
      const box = { x: x * scale, y: y * scale, side: side * scale, angle };
      const edited = await this.image(photo, face);
      pasteFace(result, box, edited, detail ? rebuilt : undefined, gray);
    }
    return result;
  }

  // A random face, in the form of a photo.
  async sample() {
    const code = sampleCode(this.description);
    const side = this.description.resolution;
    const image = toImageData(await this.generate(code), side);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = side;
    canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
    return { canvas, data: image.data, width: side, height: side, code };
  }

  // The model's image for a code moved by strengths.
  async generate(code, strengths = this.description.attributes.map(() => 0)) {
    const inputs = { ...code, strengths: Float32Array.from(strengths) };
    const { image } = await this.model.run("generate", inputs);
    if (!image.every(Number.isFinite)) throw new Error("the model's output is not finite");
    return image;
  }
}

// The framed square as the model sees it, floats.
function inputOf(photo, frame, resolution) {
  if (frame.angle !== undefined) return cropFace(photo, boxOf(frame), resolution);
  return toFloat(cutSquare(photo, frame, resolution));
}

// The framed square at the photo's own resolution, and a mask of where edits may change it.
function sharpSquare(photo, frame, resolution) {
  const side = Math.max(resolution, Math.min(DETAIL, Math.round(frame.side)));
  return { crop: squareOf(photo, frame, side), mask: softMask(side) };
}

function squareOf(photo, frame, side) {
  if (frame.angle !== undefined) {
    const length = Math.max(side, Math.ceil(frame.side));
    const data = upright(photo, boxOf(frame), length, 4);
    const square = { data, width: length, height: length };
    return toImageData(cutSquare(square, { left: 0, top: 0, side: length }, side), side);
  }
  const { left, top, side: length } = frame;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(photo.canvas, left, top, length, length, 0, 0, side, side);
  return context.getImageData(0, 0, side, side);
}
