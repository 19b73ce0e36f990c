// What the page shows of the state: the photo, the frame, and the images before and after.

export const VIEWS = ["frame", "result", "whole"];

const $ = (id) => document.getElementById(id);

// "frame": the photo with the frames; "result": the framed face before and after; "whole": the photo
// before and after.
export function showView(name) {
  $("empty").hidden = true;
  $("compare").hidden = name === "frame";
  $("stage").hidden = $("framing").hidden = name !== "frame";
  for (const each of VIEWS) $(`view-${each}`).ariaPressed = String(each === name);
}

export function showPhoto(photo) {
  const canvas = $("photo");
  [canvas.width, canvas.height] = [photo.width, photo.height];
  canvas.getContext("2d").drawImage(photo.canvas, 0, 0);
  $("stage").style.setProperty("--ratio", photo.width / photo.height);
  $("views").hidden = Boolean(photo.code); // a face that the model made up fills its frame
}

// Shows the frames: the selected one is movable, a tap on another one calls `select` with its index.
// Several are numbered.
export function placeFrames({ photo, faces, selected }, select) {
  const { frame } = faces[selected];
  const several = faces.length > 1;
  place($("frame"), frame, photo);
  $("frame").ariaLabel = several ? `Frame of face ${selected + 1}` : "Face frame";
  $("frame-number").textContent = several ? selected + 1 : "";
  $("zoom").value = Math.round((frame.side / Math.min(photo.width, photo.height)) * 100);
  $("edit-title").textContent = several ? `Face ${selected + 1} of ${faces.length}` : "Attributes";
  showOthers({ photo, faces, selected }, select);
}

function showOthers({ photo, faces, selected }, select) {
  const others = faces.map(({ frame }, index) => {
    const button = Object.assign(document.createElement("button"), {
      type: "button", className: "other", ariaLabel: `Edit face ${index + 1}`,
    });
    button.append(Object.assign(document.createElement("span"), {
      className: "number", textContent: index + 1,
    }));
    button.addEventListener("click", () => select(index));
    place(button, frame, photo);
    return button;
  });
  $("others").replaceChildren(...others.toSpliced(selected, 1));
}

function place(element, { left, top, side, angle = 0 }, { width, height }) {
  const percent = (value, whole) => `${(value / whole) * 100}%`;
  Object.assign(element.style, {
    left: percent(left, width), top: percent(top, height),
    width: percent(side, width), height: percent(side, height), rotate: `${angle}deg`,
  });
}

// Draws ImageData of equal size. what: they show; edits: in words.
export function showImages({ before, after }, what, edits) {
  draw($("before"), before);
  draw($("after"), after);
  $("compare").style.setProperty("--ratio", before.width / before.height);
  $("before").ariaLabel = `Before: ${what}`;
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
