// The page: turns the user's actions into a frame and strengths, and draws the edited images.
//
// photo.js reads a photo, frame.js handles the square that the model sees, pixels.js crops that
// square, model.js encodes it (once per photo and frame) and generates an image (whenever a slider
// moves), and this file draws the result. Only the latest request is processed: dragging a slider
// sends far more requests than the model can answer.
//
// For tests, benchmarks and embedding pages, window.editor has
//   ready                    promise of the description (model.json), once the model is loaded
//   run(signature, inputs)   promise of a signature's outputs; inputs and outputs are Float32Arrays
//                            by name, in C order, batch 1
//   idle()                   promise that resolves when every request is drawn or has failed
//   move(attribute, value)   moves a slider; promise of the milliseconds until the image is drawn
//   input()                  the model's latest input: Float32Array in [-1, 1]

import { loadExample } from "./example.js";
import { initialFrame, makeMovable, resized } from "./frame.js";
import { get, startModel } from "./model.js";
import { closeCamera, openCamera, readPhoto, shoot } from "./photo.js";
import { cutSquare, keepDetail, softMask, toFloat, toImageData } from "./pixels.js";

const DETAIL = 768; // maximum size in px of the images that keep the photo's detail
const INSTALL_WAIT = 5000; // maximum ms that the first visit waits for the service worker
const FRAME_WAIT = 120; // ms without a move of the frame before its square is encoded
const STRIP = [-2, -1, 0, 1, 2];
const STRIP_TILE = 128; // minimum px

const LOADING = "Loading the model: about 10 MB, only the first time.";

const $ = (id) => document.getElementById(id);

let description; // model.json
let model;
let photo; // {canvas, data, width, height}
let frame; // {left, top, side} in the photo's px
// The framed square: {input, code, rebuilt}, floats. code: the latent, and the features if the model
// has them; rebuilt: the unedited image.
let face;
let sharp; // the square at the photo's resolution: {crop, mask}; created when needed
let current = 0; // index of the attribute whose slider was used last
const sliders = [];

// ---- status messages -----------------------------------------------------------------------------

function say(text) {
  $("status").textContent = text;
  $("status").classList.remove("error");
}

function sayError(error) {
  $("status").textContent = `Error: ${error.message}`;
  $("status").classList.add("error");
}

// "Blond_Hair" -> "Blond hair"
function words(name) {
  const text = name.replaceAll("_", " ").toLowerCase();
  return text[0].toUpperCase() + text.slice(1);
}

function signed(value) {
  const text = Math.abs(value).toFixed(2);
  return Number(text) === 0 ? "0.00" : `${value < 0 ? "−" : "+"}${text}`;
}

// ---- start ---------------------------------------------------------------------------------------

async function start() {
  say(LOADING);
  if (typeof WebAssembly !== "object") {
    throw new Error("this browser has no WebAssembly, which the model needs; use a newer one");
  }
  const kept = await keepOffline();
  const given = await readDescription();
  const bytes = new Uint8Array(await (await get("model.tflite")).arrayBuffer());
  const size = bytes.length;
  if (new TextDecoder().decode(bytes.subarray(4, 8)) !== "TFL3") {
    throw new Error(
      "model.tflite is damaged or not a TFLite model; export the page again with cgan export",
    );
  }
  model = await startModel(given, bytes);
  description = given;
  $("about").textContent =
    `Model: ${description.variant === "none" ? "float32" : description.variant}, ` +
    `${(size / 1e6).toFixed(1)} MB, ${description.resolution} px. ${description.license}`;
  $("offline").textContent = await offlineWords(kept);
  makeSliders();
  $("guide").toggleAttribute("hidden", description.crop !== "celeba");
  $("aligned-help").hidden = description.crop !== "celeba";
  enable();
  const example = await loadExample(description);
  if (photo) {
    setPhoto(photo);
  } else if (example) {
    setPhoto(example);
    say("This is an example: move the sliders, or choose a photo.");
  } else {
    say("Ready. Choose a photo.");
  }
  return description;
}

async function readDescription() {
  const given = await (await get("model.json")).json().catch(() => undefined);
  const { attributes, latent_shape: latent, features_shape: features, resolution } = given ?? {};
  if (![attributes, latent, features].every(Array.isArray) || !Number.isInteger(resolution)) {
    throw new Error("model.json is damaged; export the page again with cgan export");
  }
  return given;
}

// Installs offline.js before the files that it caches are requested. Returns its registration, or
// undefined if the browser does not support or allow service workers.
async function keepOffline() {
  try {
    const container = navigator.serviceWorker;
    const registration = await container.register("offline.js");
    if (registration.active) return registration;
    await new Promise((resolve) => {
      container.addEventListener("controllerchange", resolve, { once: true });
      registration.installing?.addEventListener("statechange", ({ target }) => {
        if (target.state === "redundant") resolve(); // it could not be installed
      });
      setTimeout(resolve, INSTALL_WAIT);
    });
    return registration;
  } catch {
    return undefined;
  }
}

async function offlineWords(registration) {
  if (registration?.waiting) return "A newer version is available: close this page, then open it again.";
  if (registration && (await caches.match("model.tflite"))) {
    return "The page is stored on this device and works offline.";
  }
  return "This browser does not store the page; it needs its server (https or localhost) every time.";
}

function enable() {
  for (const id of ["download", "reset", "detail", "draw-strip"]) $(id).disabled = !face;
  for (const { input, button } of sliders) input.disabled = button.disabled = !face;
}

// ---- the sliders ---------------------------------------------------------------------------------

function makeSliders() {
  const rows = description.attributes.map((name, index) => {
    const row = document.createElement("div");
    row.className = "attribute";
    const input = Object.assign(document.createElement("input"), {
      type: "range", id: `strength-${name}`, min: -2, max: 2, step: 0.05, value: 0,
    });
    const label = Object.assign(document.createElement("label"), {
      htmlFor: input.id, textContent: words(name),
    });
    const output = document.createElement("output");
    output.htmlFor = input.id;
    const button = Object.assign(document.createElement("button"), {
      type: "button", textContent: "↺", title: "Reset",
    });
    button.setAttribute("aria-label", `Reset ${words(name)}`);
    const measured = document.createElement("p");
    measured.className = "measured";
    const slider = { name, input, output, measured, button };
    input.addEventListener("input", () => strengthChanged(slider));
    input.addEventListener("focus", () => choose(index));
    button.addEventListener("click", () => setStrength(slider, 0));
    row.append(label, output, button, input, measured);
    sliders.push(slider);
    show(slider);
    return row;
  });
  $("attributes").replaceChildren(...rows);
  choose(0);
}

function choose(index) {
  current = index;
  $("row-name").textContent = words(sliders[index].name);
}

function setStrength(slider, value) {
  slider.input.value = value;
  strengthChanged(slider);
}

function strengthChanged(slider) {
  choose(sliders.indexOf(slider));
  show(slider);
  ask({ generate: true });
}

function show({ name, input, output, measured }) {
  const strength = Number(input.value);
  const change = changeAt(description.calibration[name] ?? [], strength);
  output.textContent = signed(strength);
  measured.textContent = change === undefined ? "not measured" : `${signed(change)} on average`;
  if (!strength) measured.textContent = "unedited";
  input.setAttribute("aria-valuetext", `${signed(strength)}, ${measured.textContent}`);
}

// The change measured at a strength, interpolated in the table; undefined outside of it.
function changeAt(table, strength) {
  const points = [...table, { strength: 0, change: 0 }].sort((a, b) => a.strength - b.strength);
  const above = points.findIndex((point) => point.strength >= strength);
  if (above < 0 || !table.length) return undefined;
  const high = points[above];
  if (high.strength === strength) return high.change;
  const low = points[above - 1];
  if (!low) return undefined;
  const share = (strength - low.strength) / (high.strength - low.strength);
  return low.change + (high.change - low.change) * share;
}

function strengths() {
  return sliders.map(({ input }) => Number(input.value));
}

// ---- the work: one request at a time, the latest first --------------------------------------------

const pending = { encode: false, generate: false };
let working; // promise, while requests are processed
let failed = false; // the last request; its message stays until one succeeds
let timer; // until the frame has not moved for a while
let newest; // promise of the photo being read; a later one replaces it

function ask(request) {
  Object.assign(pending, request);
  working ??= work().finally(() => {
    working = undefined;
  });
  return working;
}

async function work() {
  try {
    while (model && photo && (pending.encode || pending.generate)) {
      if (pending.encode) {
        pending.encode = false;
        await encode();
      }
      pending.generate = false;
      if (face) await generate();
      if (failed) say("Move the sliders.");
      failed = false;
    }
  } catch (error) {
    pending.encode = pending.generate = false;
    failed = true;
    sayError(error);
  }
}

function encodeSoon(wait) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    timer = undefined;
    ask({ encode: true });
  }, wait);
}

async function idle() {
  while (newest || timer !== undefined || working) {
    await (working ?? new Promise((resolve) => setTimeout(resolve, 5)));
  }
}

async function encode() {
  const input = toFloat(cutSquare(photo, frame, description.resolution));
  const code = await model.run("encode", { image: input });
  const rebuilt = await generateImage(code, sliders.map(() => 0));
  face = { input, code, rebuilt };
  sharp = undefined;
  hideStrip();
  enable();
}

// The model's image for a code moved by strengths.
async function generateImage(code, values) {
  const inputs = { ...code, strengths: Float32Array.from(values) };
  const { image } = await model.run("generate", inputs);
  if (!image.every(Number.isFinite)) throw new Error("the model's output is not finite");
  return image;
}

async function generate() {
  const images = await imagesFor(strengths());
  draw($("before"), images.before);
  draw($("after"), images.after);
  $("before").setAttribute("aria-label", "Before: the framed face");
  const set = sliders.filter(({ input }) => Number(input.value) !== 0);
  const edits = set.map(({ name, input }) => `${words(name)} ${signed(Number(input.value))}`);
  $("after").setAttribute("aria-label", `After: ${edits.join(", ") || "no edit"}`);
}

// The images shown before and after an edit, ImageData of the same size.
async function imagesFor(values) {
  const { resolution } = description;
  const { input, code, rebuilt } = face;
  const edited = await generateImage(code, values);
  if (!$("detail").checked) {
    return { before: toImageData(input, resolution), after: toImageData(edited, resolution) };
  }
  sharp ??= sharpSquare();
  const after = keepDetail(sharp.crop, edited, rebuilt, resolution, sharp.mask);
  return { before: sharp.crop, after };
}

// The framed square at the photo's own resolution, and a mask of where edits may change it.
function sharpSquare() {
  const side = Math.max(description.resolution, Math.min(DETAIL, Math.round(frame.side)));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(photo.canvas, frame.left, frame.top, frame.side, frame.side, 0, 0, side, side);
  return { crop: context.getImageData(0, 0, side, side), mask: softMask(side) };
}

function draw(canvas, image) {
  if (canvas.width !== image.width) canvas.width = canvas.height = image.width;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// ---- photo and frame -----------------------------------------------------------------------------

async function take(file) {
  if ($("file").disabled) return; // no model; the status gives the reason
  const reading = (newest = readPhoto(file));
  say(`Reading ${file.name || "the photo"}.`);
  try {
    const read = await reading;
    if (reading === newest) setPhoto(read);
  } catch (error) {
    if (reading === newest) sayError(error);
  } finally {
    if (reading === newest) newest = undefined;
  }
}

function setPhoto(next) {
  photo = next;
  const canvas = $("photo");
  [canvas.width, canvas.height] = [photo.width, photo.height];
  canvas.getContext("2d").drawImage(photo.canvas, 0, 0);
  $("stage").style.setProperty("--ratio", photo.width / photo.height);
  $("empty").hidden = true;
  $("stage").hidden = $("framing").hidden = false;
  say(model ? "Frame the face, then move the sliders." : LOADING);
  setFrame(initialFrame(photo, description?.crop), 0);
}

function setFrame(next, wait = FRAME_WAIT) {
  frame = next;
  const percent = (value, whole) => `${(value / whole) * 100}%`;
  Object.assign($("frame").style, {
    left: percent(frame.left, photo.width), top: percent(frame.top, photo.height),
    width: percent(frame.side, photo.width), height: percent(frame.side, photo.height),
  });
  $("zoom").value = Math.round((frame.side / Math.min(photo.width, photo.height)) * 100);
  encodeSoon(wait);
}

makeMovable($("frame"), $("stage"), $("corner"), () => ({ frame, photo }), setFrame);
$("zoom").addEventListener("input", () => {
  const side = (Number($("zoom").value) / 100) * Math.min(photo.width, photo.height);
  setFrame(resized(frame, side, photo));
});
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) take(file);
  $("file").value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) take(file);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragged");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragged");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragged");
  const [file] = event.dataTransfer.files;
  if (file) take(file);
  else sayError(new Error("that is not a file; drop a photo that is stored on this device"));
});

// ---- the camera ----------------------------------------------------------------------------------

const dialog = $("camera-dialog");
$("camera").addEventListener("click", async () => {
  try {
    await openCamera($("video"));
    dialog.showModal();
  } catch (error) {
    closeCamera($("video"));
    sayError(error);
  }
});
$("shutter").addEventListener("click", () => {
  const shot = shoot($("video"));
  dialog.close();
  setPhoto(shot);
});
$("camera-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => closeCamera($("video"))); // by Escape too

// ---- reset, detail, downloads, strip ---------------------------------------------------------------

$("reset").addEventListener("click", () => {
  for (const slider of sliders) {
    slider.input.value = 0;
    show(slider);
  }
  ask({ generate: true });
});
$("detail").addEventListener("change", () => ask({ generate: true }));
$("download").addEventListener("click", async () => {
  await idle();
  download($("after"), "edited.png");
});
$("download-strip").addEventListener("click", () => download($("strip"), "strip.png"));
$("draw-strip").addEventListener("click", async () => {
  try {
    await drawStrip();
  } catch (error) {
    sayError(error);
  }
});

function download(canvas, name) {
  canvas.toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), {
      href: URL.createObjectURL(blob), download: name,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}

// A labeled row of images: the current edit, with the current attribute at the strengths of STRIP.
async function drawStrip() {
  await idle();
  const { name } = sliders[current];
  const tiles = [];
  for (const value of STRIP) {
    const values = strengths();
    values[current] = value;
    tiles.push((await imagesFor(values)).after);
  }
  const side = Math.max(STRIP_TILE, Math.min(tiles[0].width, 2 * STRIP_TILE));
  const line = Math.round(side * 0.17);
  const canvas = $("strip");
  [canvas.width, canvas.height] = [side * tiles.length, side + line];
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  Object.assign(context, {
    fillStyle: "black", font: `${line * 0.62}px system-ui, sans-serif`, textAlign: "center",
    textBaseline: "middle", imageSmoothingQuality: "high",
  });
  for (const [index, tile] of tiles.entries()) {
    const bitmap = await createImageBitmap(tile);
    context.drawImage(bitmap, index * side, 0, side, side);
    const label = STRIP[index] ? `${words(name)} ${signed(STRIP[index])}` : words(name) + " 0";
    context.fillText(label, (index + 0.5) * side, side + line / 2, side * 0.96);
    bitmap.close();
  }
  canvas.setAttribute("aria-label", `Strip: ${words(name)} at strengths −2 to +2`);
  canvas.hidden = false;
  $("download-strip").disabled = false;
  say(`The strip of ${words(name)} is ready.`);
}

function hideStrip() {
  $("strip").hidden = true;
  $("download-strip").disabled = true;
}

// ---- window.editor -------------------------------------------------------------------------------

const ready = start();
ready.catch((error) => {
  $("file").disabled = $("camera").disabled = true;
  sayError(error);
});
window.editor = {
  ready,
  run: async (signature, inputs) => {
    await ready;
    return model.run(signature, inputs);
  },
  idle,
  move: async (attribute, value) => {
    const slider = sliders.find(({ name }) => name === attribute);
    if (!slider) throw new Error(`${attribute}: not an attribute of this model`);
    await idle();
    const begin = performance.now();
    slider.input.value = value;
    strengthChanged(slider);
    await working;
    return performance.now() - begin;
  },
  input: () => face?.input,
};
