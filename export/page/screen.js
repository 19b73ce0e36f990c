// What the page shows of the state: the photo, the frame, and the images before and after.

const $ = (id) => document.getElementById(id);

// "result": the images before and after; "frame": the photo with the frame.
export function showView(name) {
  $("empty").hidden = true;
  $("compare").hidden = name !== "result";
  $("stage").hidden = $("framing").hidden = name !== "frame";
  for (const each of ["result", "frame"]) $(`view-${each}`).ariaPressed = String(each === name);
}

export function showPhoto(photo) {
  const canvas = $("photo");
  [canvas.width, canvas.height] = [photo.width, photo.height];
  canvas.getContext("2d").drawImage(photo.canvas, 0, 0);
  $("stage").style.setProperty("--ratio", photo.width / photo.height);
  $("views").hidden = Boolean(photo.code); // a face that the model made up fills its frame
}

export function placeFrame({ left, top, side }, { width, height }) {
  const percent = (value, whole) => `${(value / whole) * 100}%`;
  Object.assign($("frame").style, {
    left: percent(left, width), top: percent(top, height),
    width: percent(side, width), height: percent(side, height),
  });
  $("zoom").value = Math.round((side / Math.min(width, height)) * 100);
}

// Draws ImageData of equal size. edits: in words.
export function showImages({ before, after }, edits) {
  draw($("before"), before);
  draw($("after"), after);
  $("compare").style.setProperty("--ratio", before.width / before.height);
  $("before").ariaLabel = "Before: the framed face";
  $("after").ariaLabel = `After: ${edits || "no edit"}`;
}

function draw(canvas, image) {
  if (canvas.width !== image.width || canvas.height !== image.height) {
    [canvas.width, canvas.height] = [image.width, image.height];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

export function showStrip() {
  $("strip").hidden = $("download-strip").disabled = false;
}

export function hideStrip() {
  $("strip").hidden = $("download-strip").disabled = true;
}
