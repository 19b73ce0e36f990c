// The face that the page edits until a photo is chosen.

import { draw } from "./photo.js";

// The page's own picture of a face, in the form of photo.js's readPhoto; undefined if there is none,
// or it cannot be read, since the page works without. An image may still be loaded when the model
// has started and connections are forbidden.
export async function loadExample({ example }) {
  if (!example) return undefined;
  const image = new Image();
  image.src = example;
  try {
    await image.decode();
  } catch {
    return undefined;
  }
  return draw(image, image.naturalWidth, image.naturalHeight);
}
