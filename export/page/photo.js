// Photos from files and from the camera.

const MAX_PIXELS = 64e6; // as cgan_tf.data.images
const LONGEST = 2048; // px of the longer side that the page works on; larger photos are reduced

// A file as {canvas, data, width, height}: upright, on white, data with 4 bytes a pixel.
//
// Rejects with one clear line that names the file.
export async function readPhoto(file) {
  const name = file.name || "the picture";
  if (!file.size) throw new Error(`${name} is empty; choose another photo`);
  const [width, height] = await uprightSize(file, name);
  if (width * height > MAX_PIXELS) {
    throw new Error(
      `${name}: ${width} x ${height} px is more than the ${MAX_PIXELS / 1e6} million pixels that ` +
        "are accepted; reduce it first",
    );
  }
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const [wide, high] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {
      imageOrientation: "from-image",
      ...(scale < 1 && { resizeWidth: wide, resizeHeight: high, resizeQuality: "high" }),
    });
  } catch {
    throw new Error(`${name} is damaged, or too large for this device; choose another photo`);
  }
  try {
    return draw(bitmap, wide, high);
  } finally {
    bitmap.close();
  }
}

// Width and height, from the file's head alone: a picture too large must not be decoded first.
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

// What is drawn of a bitmap or a video frame.
function draw(source, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return { canvas, data, width, height };
}

// ---- the camera --------------------------------------------------------------------------------

// Shows the camera in a video element. Rejects with one clear line.
export async function openCamera(video) {
  if (!navigator.mediaDevices) {
    throw new Error("browsers offer the camera on https and localhost alone; choose a photo instead");
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
    throw new Error(`${reason ?? `the camera does not open (${error.message})`}, or choose a photo`);
  }
  video.srcObject = stream;
  await video.play();
}

// The frame that the video shows, as readPhoto gives photos.
export function shoot(video) {
  return draw(video, video.videoWidth, video.videoHeight);
}

// Turns the camera off.
export function closeCamera(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}
