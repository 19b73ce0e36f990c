// The square of the photo that the model sees, and how it is moved: by mouse, touch and keys.
//
// A frame is {left, top, side} in the photo's px; it never leaves the photo.

const [CELEBA_WIDTH, CELEBA_HEIGHT, CELEBA_SQUARE] = [178, 218, 148];
const SMALLEST = 1 / 12; // of the photo's shorter side
const STEP = 0.01; // of the shorter side, that an arrow key moves; with Shift five of them
const FACTOR = 1.04; // by which + and - scale, and a wheel's notch

// The crop that cgan_tf.photos.crop_photo takes: CelebA's own for a photo of exactly its
// proportions, where the model has learned from those; else the largest centered square.
export function initialFrame({ width, height }, crop) {
  const aligned = crop === "celeba" && width * CELEBA_HEIGHT === height * CELEBA_WIDTH;
  const side = aligned ? (CELEBA_SQUARE * width) / CELEBA_WIDTH : Math.min(width, height);
  return { left: (width - side) / 2, top: (height - side) / 2, side };
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function inside({ left, top, side }, { width, height }) {
  return { left: clamp(left, 0, width - side), top: clamp(top, 0, height - side), side };
}

export function moved(frame, across, down, photo) {
  return inside({ ...frame, left: frame.left + across, top: frame.top + down }, photo);
}

// Scaled to a side about its center.
export function resized(frame, side, photo) {
  const shorter = Math.min(photo.width, photo.height);
  const next = clamp(side, shorter * SMALLEST, shorter);
  const shift = (frame.side - next) / 2;
  return inside({ left: frame.left + shift, top: frame.top + shift, side: next }, photo);
}

// Lets the user move the frame that element shows over the photo.
//
// stage: the element that shows the whole photo; corner: the handle that scales; get: returns
// {frame, photo}, or nothing without a photo; set: is given the new frame.
export function makeMovable(element, stage, corner, get, set) {
  const fingers = new Map(); // pointers that are down, by number: where they are, in the photo's px
  const place = (event) => {
    const bounds = stage.getBoundingClientRect();
    const scale = get().photo.width / bounds.width;
    return { x: (event.clientX - bounds.left) * scale, y: (event.clientY - bounds.top) * scale };
  };
  const apart = ([one, two]) => Math.hypot(one.x - two.x, one.y - two.y);

  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { ...place(event), scaling: event.target === corner });
  });
  element.addEventListener("pointermove", (event) => {
    const old = fingers.get(event.pointerId);
    if (!old) return;
    const { frame, photo } = get();
    const now = { ...place(event), scaling: old.scaling };
    const before = [...fingers.values()];
    fingers.set(event.pointerId, now);
    if (fingers.size === 2) {
      const after = [...fingers.values()];
      set(resized(frame, (frame.side * apart(after)) / Math.max(apart(before), 1), photo));
    } else if (old.scaling) {
      const center = frame.left + frame.side / 2;
      const middle = frame.top + frame.side / 2;
      set(resized(frame, 2 * Math.max(now.x - center, now.y - middle), photo));
    } else {
      set(moved(frame, now.x - old.x, now.y - old.y, photo));
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const { frame, photo } = get();
      set(resized(frame, frame.side * FACTOR ** Math.sign(event.deltaY), photo));
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
  if (ctrlKey || metaKey || altKey) return undefined; // the browser's own zoom and history
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
