// A labeled row of images, and downloads.

import { signed, words } from "./text.js";

export const STRENGTHS = [-2, -1, 0, 1, 2];
const TILE = 128; // minimum px

// Draws images of one attribute at STRENGTHS, ImageData of equal size, with labels below them.
export async function drawStrip(canvas, images, name) {
  const side = Math.max(TILE, Math.min(images[0].width, 2 * TILE));
  const line = Math.round(side * 0.17);
  [canvas.width, canvas.height] = [side * images.length, side + line];
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  Object.assign(context, {
    fillStyle: "black", font: `${line * 0.62}px system-ui, sans-serif`, textAlign: "center",
    textBaseline: "middle", imageSmoothingQuality: "high",
  });
  for (const [index, image] of images.entries()) {
    const bitmap = await createImageBitmap(image);
    context.drawImage(bitmap, index * side, 0, side, side);
    const strength = STRENGTHS[index];
    const label = `${words(name)} ${strength ? signed(strength) : "0"}`;
    context.fillText(label, (index + 0.5) * side, side + line / 2, side * 0.96);
    bitmap.close();
  }
  canvas.setAttribute("aria-label", `Strip: ${words(name)} at strengths −2 to +2`);
}

// Saves a canvas as a PNG file.
export function download(canvas, name) {
  canvas.toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), {
      href: URL.createObjectURL(blob), download: name,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}
