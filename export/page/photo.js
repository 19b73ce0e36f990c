// Photos from files and from the camera.

import { MAX_PIXELS } from "./rules.js";

const LONGEST = 2048; // px of the longer side to which larger photos are reduced

// Reads a file into {canvas, data, width, height}: upright, on white, data with 4 bytes per pixel;
// and {file}, if the photo had to be reduced to `longest` px.
//
// Rejects with a one-line message that names the file.
export async function readPhoto(file, longest = LONGEST) {
  const name = file.name || "the photo";
  if (!file.size) throw new Error(`${name} is empty; choose another photo`);
  const [width, height] = await uprightSize(file, name);
  if (width * height > MAX_PIXELS) {
    throw new Error(
      `${name}: ${width} x ${height} px is more than the limit of ${MAX_PIXELS / 1e6} million ` +
        "pixels; reduce it first",
    );
  }
  const scale = Math.min(1, longest / Math.max(width, height));
  const [wide, high] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {
      // No imageOrientation: upright is the default, and Safari before 17.2 refuses its name.
      ...(scale < 1 && { resizeWidth: wide, resizeHeight: high, resizeQuality: "high" }),
    });
  } catch {
    throw new Error(`${name} is damaged, or too large for this device; choose another photo`);
  }
  try {
    return { ...draw(bitmap, wide, high), ...(scale < 1 && { file }) };
  } finally {
    bitmap.close();
  }
}

// Width and height from the file's header, before an image that is too large gets decoded.
async function uprightSize(file, name) {
  const address = URL.createObjectURL(file);
  const image = new Image();
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
      image.src = address;
    });
  } catch {
    throw new Error(`${name} is not an image that this browser can read; choose another photo`);
  } finally {
    URL.revokeObjectURL(address);
  }
  return [image.naturalWidth, image.naturalHeight];
}

// The pixels of a bitmap, an image or a video frame, scaled to a size, in the form of readPhoto.
export function draw(source, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  if (data[3] !== 255) throw new Error("the photo is too large for this device"); // nothing was drawn
  return { canvas, data, width, height };
}

// Whether this browser gives pages other pixels than those that were drawn, which some do so that no
// page can recognize its users by them. It may add noise of a level or two, which does no harm.
export function hidesPixels() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [8, 8];
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, 8, 8); // black
  const { data } = context.getImageData(0, 0, 8, 8);
  return data.some((level, at) => Math.abs(level - (at % 4 === 3 ? 255 : 0)) > 8);
}

// ---- the camera --------------------------------------------------------------------------------

// Connects the camera to a video element. Rejects with a one-line message.
export async function openCamera(video) {
  if (!navigator.mediaDevices) {
    throw new Error("browsers allow the camera only on https and localhost; choose a photo instead");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 960 } },
    });
  } catch (error) {
    const reason = {
      NotAllowedError: "the camera is not allowed: allow it in the browser's settings",
      NotFoundError: "no camera was found",
      NotReadableError: "the camera is in use by another program",
    }[error.name];
    throw new Error(`${reason ?? `the camera cannot be opened (${error.message})`}, or choose a photo`);
  }
  video.srcObject = stream; // plays once the video is visible; Safari stops hidden ones
}

// The current frame of the video, in the form of readPhoto.
export function shoot(video) {
  return draw(video, video.videoWidth, video.videoHeight);
}

// Turns the camera off.
export function closeCamera(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}
