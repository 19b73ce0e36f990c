// One face of a photo: its square is encoded once, and each edit is generated from that code.
//
// A photo is {canvas, data, width, height}, see photo.js, and the code of a face that the model made
// up, see sample.js. A frame is {left, top, side} in the photo's px, never changed, only replaced.

import { sampleCode } from "./sample.js";
import { cutSquare, keepDetail, softMask, toFloat, toImageData } from "./pixels.js";

const DETAIL = 768; // maximum size in px of the images that keep the photo's detail

export class FaceEditor {
  constructor(model, description) {
    this.model = model;
    this.description = description;
    this.encoded = new WeakMap(); // by frame
    this.sharp = {}; // the latest square at the photo's resolution: {frame, crop, mask}
  }

  // The framed square: {input, code, rebuilt}, floats. code: the latent, and the features if the
  // model has them; rebuilt: the unedited image.
  async encode(photo, frame) {
    if (!this.encoded.has(frame)) {
      const input = toFloat(cutSquare(photo, frame, this.description.resolution));
      const code = photo.code ?? (await this.model.run("encode", { image: input }));
      this.encoded.set(frame, { input, code, rebuilt: await this.generate(code) });
    }
    return this.encoded.get(frame);
  }

  // The framed square before and after an edit: ImageData of the same size.
  //
  // strengths: by the attribute's index; detail: whether to keep the photo's own.
  async edit(photo, frame, strengths, detail) {
    const { resolution } = this.description;
    const { input, code, rebuilt } = await this.encode(photo, frame);
    const edited = await this.generate(code, strengths);
    if (!detail) {
      return { before: toImageData(input, resolution), after: toImageData(edited, resolution) };
    }
    if (this.sharp.frame !== frame) this.sharp = { frame, ...sharpSquare(photo, frame, resolution) };
    const { crop, mask } = this.sharp;
    return { before: crop, after: keepDetail(crop, edited, rebuilt, resolution, mask) };
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

// The framed square at the photo's own resolution, and a mask of where edits may change it.
function sharpSquare({ canvas: source }, { left, top, side: length }, resolution) {
  const side = Math.max(resolution, Math.min(DETAIL, Math.round(length)));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, left, top, length, length, 0, 0, side, side);
  return { crop: context.getImageData(0, 0, side, side), mask: softMask(side) };
}
