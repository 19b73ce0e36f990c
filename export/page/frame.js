// The square of the photo that the model sees; moved by mouse, touch and keyboard.
//
// A frame is {left, top, side} in the photo's px, and of a face that was found also {angle}: the
// clockwise tilt of the head in degrees, about the frame's center. A frame without one never leaves
// the photo, the center of one with an angle does not.

import { CELEBA_HEIGHT, CELEBA_SQUARE, CELEBA_WIDTH } from "./rules.js";

const SMALLEST = 1 / 12; // minimum side, as a fraction of the photo's shorter side
const STEP = 0.01; // move per arrow key, as a fraction of the shorter side; five times with Shift
const FACTOR = 1.04; // scale per + or - key and per notch of the wheel
const [NOTCH, LINE] = [100, 33]; // px that a wheel reports per notch, and px per line

// The same crop as data.portraits.crop_photo: CelebA's for a photo in exactly its proportions, if
// the model was trained on those; else the largest centered square.
export function initialFrame(photo, crop) {
  const { width, height } = photo;
  const aligned = crop === "celeba" && hasCelebaShape(photo);
  const side = aligned ? (CELEBA_SQUARE * width) / CELEBA_WIDTH : Math.min(width, height);
  return { left: (width - side) / 2, top: (height - side) / 2, side };
}

/** Whether a photo has exactly the proportions of CelebA's aligned photos. */
export function hasCelebaShape({ width, height }) {
  return width * CELEBA_HEIGHT === height * CELEBA_WIDTH;
}

/** The frame of a face that was found. */
export function frameOf({ x, y, side, angle }) {
  return { left: x - side / 2, top: y - side / 2, side, angle };
}

/** A frame as a box, see face_crop.js. */
export function boxOf({ left, top, side, angle = 0 }) {
  return { x: left + side / 2, y: top + side / 2, side, angle };
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function inside(frame, { width, height }) {
  const { left, top, side, angle } = frame;
  const beyond = angle === undefined ? 0 : side / 2;
  return {
    ...frame,
    left: clamp(left, -beyond, width - side + beyond),
    top: clamp(top, -beyond, height - side + beyond),
  };
}

export function moved(frame, across, down, photo) {
  return inside({ ...frame, left: frame.left + across, top: frame.top + down }, photo);
}

// Scaled about its center to a given side.
export function resized(frame, side, photo) {
  const shorter = Math.min(photo.width, photo.height);
  // A face that was found may be smaller or larger.
  const low = Math.min(shorter * SMALLEST, frame.side);
  const next = clamp(side, low, Math.max(shorter, frame.side));
  const shift = (frame.side - next) / 2;
  const [left, top] = [frame.left + shift, frame.top + shift];
  return inside({ ...frame, left, top, side: next }, photo);
}

// Lets the user move the frame, which element shows over the photo.
//
// stage: the element that shows the complete photo; corner: the handle that scales; get: returns
// {frame, photo}; set: called with the new frame.
export function makeMovable(element, stage, corner, get, set) {
  const fingers = new Map(); // positions of the active pointers, by id, in the photo's px
  let grip; // {frame, center, spread, scaling} when a finger was last added or removed

  function point(event) {
    const bounds = stage.getBoundingClientRect();
    const scale = get().photo.width / bounds.width;
    return { x: (event.clientX - bounds.left) * scale, y: (event.clientY - bounds.top) * scale };
  }

  // The center of the fingers, and the distance between two.
  function posture() {
    const [one, two = one] = fingers.values();
    const center = { x: (one.x + two.x) / 2, y: (one.y + two.y) / 2 };
    return { center, spread: Math.max(Math.hypot(one.x - two.x, one.y - two.y), 1) };
  }

  function take(scaling) {
    grip = fingers.size ? { frame: get().frame, ...posture(), scaling } : undefined;
  }

  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, point(event));
    take(event.target === corner);
  });
  element.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, point(event));
    const { center, spread } = posture();
    const across = center.x - grip.center.x;
    const down = center.y - grip.center.y;
    const { photo } = get();
    if (grip.scaling && fingers.size === 1) {
      set(resized(grip.frame, grip.frame.side + across + down, photo)); // about the center: twice
    } else {
      const scaled = resized(grip.frame, (grip.frame.side * spread) / grip.spread, photo);
      set(moved(scaled, across, down, photo));
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, (event) => {
      fingers.delete(event.pointerId);
      take(false);
    });
  }
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const { frame, photo } = get();
      const notches = (event.deltaY * (event.deltaMode ? LINE : 1)) / NOTCH;
      set(resized(frame, frame.side * FACTOR ** clamp(notches, -3, 3), photo));
    },
    { passive: false },
  );
  element.addEventListener("keydown", (event) => {
    const next = byKey(event, get());
    if (!next) return;
    event.preventDefault();
    set(next);
  });
}

function byKey({ key, shiftKey, ctrlKey, metaKey, altKey }, { frame, photo }) {
  if (ctrlKey || metaKey || altKey) return undefined; // shortcuts of the browser, such as zoom
  const step = Math.min(photo.width, photo.height) * STEP * (shiftKey ? 5 : 1);
  switch (key) {
    case "ArrowLeft":
      return moved(frame, -step, 0, photo);
    case "ArrowRight":
      return moved(frame, step, 0, photo);
    case "ArrowUp":
      return moved(frame, 0, -step, photo);
    case "ArrowDown":
      return moved(frame, 0, step, photo);
    case "+":
    case "=":
      return resized(frame, frame.side * FACTOR, photo);
    case "-":
    case "_":
      return resized(frame, frame.side / FACTOR, photo);
    default:
      return undefined;
  }
}
