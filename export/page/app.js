// The page: turns the user's actions into the editor's state, and draws the edited images.
//
// inputs.js brings photos, face_finder.js finds their faces; frame.js and sliders.js ask for changes of
// the state (state.js), which history.js keeps; editing.js makes the images when queue.js asks for them;
// screen.js shows all.
//
// For tests, benchmarks and embedding pages, window.editor has
//   ready                    promise of the description (model.json), once the model is loaded
//   run(signature, inputs)   promise of a signature's outputs; inputs and outputs are Float32Arrays
//                            by name, in C order, batch 1
//   idle()                   promise that resolves when every request is drawn or has failed
//   move(attribute, value)   moves a slider; promise of the milliseconds until the image is drawn
//   input()                  the model's latest input: Float32Array in [-1, 1]

import { makeDivider } from "./compare.js";
import { FaceEditor } from "./editing.js";
import { loadExample } from "./example.js";
import { frameOf, hasCelebaShape, makeMovable, resized } from "./frame.js";
import { History } from "./history.js";
import { listenForPhotos, listenForShortcuts } from "./inputs.js";
import { loadModel } from "./model.js";
import { hidesPixels, readPhoto } from "./photo.js";
import { Queue } from "./queue.js";
import { canSample } from "./sample.js";
import {
  hideStrip, placeFrames, showImages, showPhoto, showStrip, showView, VIEWS,
} from "./screen.js";
import { Sliders } from "./sliders.js";
import { afterStep, EMPTY, newState, selectedFace, withFace } from "./state.js";
import { keepOffline, offlineWords } from "./storage.js";
import { download, drawStrip, STRENGTHS } from "./strip.js";
import { facesInWords, inWords, say, sayError, words } from "./text.js";

const FRAME_WAIT = 120; // ms without a move of the frame before its square is encoded

const LOADING = "Loading the model: about 10 MB, only the first time.";
const EXAMPLE = "This is an example: move the sliders, or choose a photo.";
const FRAME_IT = "Frame the face, then move the sliders.";
const LOOKING = "Looking for faces.";
const NOT_FOUND = "No face found. Move the frame over the face, then move the sliders.";
const ONE_FOUND = "One face found. Move the sliders, or correct its frame.";
const found = (count) => `${count} faces found. Tap one, then move its sliders.`;
const COMPARE = "Drag the divider to compare before and after.";
const RANDOM = "A random face, which nobody has. Move the sliders.";

const $ = (id) => document.getElementById(id);

let description; // model.json
let model;
let finder; // of faces; undefined if the model has no use for it
let faceEditor;
let sliders;
let state = EMPTY;
let shown = {}; // what the canvases show: {photo, frame, input}
let resultView = "result"; // the view that an edit opens; or "whole"
let current = 0; // index of the attribute whose slider was used last
const history = new History(state);
const queue = new Queue(drawResult, () => faceEditor && state.photo);

// ---- start ---------------------------------------------------------------------------------------

async function start() {
  say(LOADING);
  if (typeof WebAssembly !== "object") {
    throw new Error("this browser has no WebAssembly, which the model needs; use a newer one");
  }
  if (hidesPixels()) {
    throw new Error(
      "this browser does not let pages read pixels, which the model needs; allow this page to extract " +
        "canvas data, or use another browser",
    );
  }
  const kept = await keepOffline();
  const loaded = await loadModel();
  $("offline").textContent = await offlineWords(kept);
  ({ model, description, finder } = loaded);
  faceEditor = new FaceEditor(model, description);
  $("about").textContent =
    `Model: ${description.variant === "none" ? "float32" : description.variant}, ` +
    `${(loaded.size / 1e6).toFixed(1)} MB, ${description.resolution} px. ${description.license}`;
  sliders = new Sliders($("attributes"), description, {
    move: moveSlider, grip: () => history.endRun(), choose,
  });
  choose(0);
  $("guide").toggleAttribute("hidden", description.crop !== "celeba");
  $("aligned-help").hidden = description.crop !== "celeba";
  $("surprise").hidden = !canSample(description);
  enable();
  try {
    if (state.photo) await setPhoto(state.photo);
    else await showExample();
  } catch (error) {
    sayError(error); // another photo may do
  }
  return description;
}

// An example to edit, until a photo is chosen.
async function showExample() {
  const example = await loadExample(description);
  const photo = example ?? (canSample(description) ? await faceEditor.sample() : undefined);
  if (state.photo || newest) return; // chosen meanwhile
  if (!photo) {
    say("Ready. Choose a photo.");
    return;
  }
  await setPhoto(photo);
  showView("result");
  say(example ? EXAMPLE : "Ready. Edit this random face, or choose a photo.");
  await idle();
}

// ---- the state -----------------------------------------------------------------------------------

// A step that can be undone. control: see History.record.
function change(next, control, wait) {
  state = next;
  history.record(state, control);
  present();
  queue.request(wait);
}

function goTo(next, text) {
  const { photo, faces } = state;
  state = afterStep(state, next);
  const { selected } = state;
  const moved = photo === state.photo && faces[selected].frame !== selectedFace(state).frame;
  if (state.photo.code) resultView = "result";
  showView(moved ? "frame" : resultView);
  present();
  queue.request();
  say(text);
}

function undo() {
  if (history.canUndo) goTo(history.undo(), "Undone.");
}

function redo() {
  if (history.canRedo) goTo(history.redo(), "Redone.");
}

function setStrengths(strengths, control) {
  if ($("compare").hidden) say(COMPARE);
  showView(resultView);
  change(withFace(state, { strengths }), control);
}

function moveSlider(index, strength, alone) {
  choose(index);
  const { strengths } = selectedFace(state);
  if (strengths[index] === strength) return;
  setStrengths(strengths.with(index, strength), alone ? undefined : `strength ${index}`);
}

// Not a step that can be undone.
function select(index) {
  state = { ...state, selected: index };
  history.endRun();
  present();
  $("frame").focus({ preventScroll: true });
  queue.request();
}

function setFrame(frame) {
  change(withFace(state, { frame }), "frame", FRAME_WAIT);
}

// ---- photos --------------------------------------------------------------------------------------

let newest; // promise of the photo being read; a later one replaces it

async function receive(reading, text, set) {
  newest = reading;
  say(text);
  try {
    const photo = await reading;
    if (reading === newest) await set(photo);
  } catch (error) {
    if (reading === newest) sayError(error);
  } finally {
    if (reading === newest) newest = undefined;
  }
}

function take(file) {
  if ($("file").disabled) return; // no model; the status gives the reason
  receive(readPhoto(file), `Reading ${file.name || "the photo"}.`, setPhoto);
}

// Undo does not go back behind a photo: several large ones would fill the memory.
async function setPhoto(photo) {
  state = newState(photo, description);
  history.clear(state);
  if (photo.code) resultView = "result";
  showView(photo.code ? resultView : "frame");
  present();
  say(model ? FRAME_IT : LOADING);
  // A photo in CelebA's proportions is taken for an aligned one, as by cgan translate.
  try {
    if (finder && !photo.code && !hasCelebaShape(photo)) await findFaces(photo);
  } finally {
    queue.request();
  }
}

// Frames the faces in the photo, unless the user meanwhile does so, or chooses another photo.
async function findFaces(photo) {
  const begun = state;
  say(LOOKING);
  const boxes = await finder.find(photo);
  if (state !== begun) return;
  if (boxes.length) state = newState(photo, description, boxes.map(frameOf));
  history.clear(state);
  present();
  say([NOT_FOUND, ONE_FOUND][boxes.length] ?? found(boxes.length));
}

function surprise() {
  receive(faceEditor.sample(), "Making up a face.", (photo) => {
    resultView = "result";
    showView(resultView);
    const first = !state.photo;
    change(newState(photo, description));
    if (first) history.clear(state); // nothing can be undone to an empty page
    enable();
    say(RANDOM);
  });
}

// ---- what the page shows -------------------------------------------------------------------------

// Shows the state, except for the images that the model makes.
function present() {
  const { photo } = state;
  if (photo !== shown.photo) showPhoto(photo);
  shown.photo = photo;
  placeFrames(state, select);
  sliders?.show(selectedFace(state).strengths);
  enable();
}

function enable() {
  const on = Boolean(shown.input);
  for (const id of ["download", "reset", "detail", "draw-strip"]) $(id).disabled = !on;
  $("surprise").disabled = !faceEditor;
  sliders?.enable(on);
  // Not disabled, which would take the focus from the button that was pressed.
  $("undo").ariaDisabled = String(!history.canUndo);
  $("redo").ariaDisabled = String(!history.canRedo);
}

function choose(index) {
  current = index;
  $("row-name").textContent = words(description.attributes[index]);
}

// ---- the images ----------------------------------------------------------------------------------

async function drawResult() {
  const { photo, faces } = state;
  const face = selectedFace(state);
  const { frame, strengths } = face;
  const { attributes } = description;
  const detail = $("detail").checked;
  const { input } = await faceEditor.encode(photo, frame);
  if (resultView === "whole") {
    const before = new ImageData(photo.data, photo.width);
    const after = await faceEditor.editAll(photo, faces, detail);
    showImages({ before, after }, "the photo", facesInWords(attributes, faces));
  } else {
    const images = await faceEditor.edit(photo, face, detail);
    showImages(images, "the framed face", inWords(attributes, strengths));
  }
  if (shown.frame !== frame) hideStrip();
  Object.assign(shown, { frame, input });
  enable();
}

// The complete photo with its edited faces, in the file's own size if the device can; of a face that
// the model made up the image itself.
async function editedCanvas() {
  const { photo, faces } = state;
  if (photo.code) return $("after");
  const full = photo.file ? await readPhoto(photo.file, Infinity).catch(() => photo) : photo;
  const image = await faceEditor.editAll(photo, faces, $("detail").checked, full);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

async function idle() {
  while (newest || !queue.idle) {
    await (queue.working ?? new Promise((resolve) => setTimeout(resolve, 5)));
  }
}

// The current edit, with the current attribute at the strengths of the strip.
async function makeStrip() {
  await idle();
  const index = current;
  const { frame, strengths } = selectedFace(state);
  const images = [];
  for (const strength of STRENGTHS) {
    const face = { frame, strengths: strengths.with(index, strength) };
    const { after } = await faceEditor.edit(state.photo, face, $("detail").checked);
    images.push(after);
  }
  const name = description.attributes[index];
  await drawStrip($("strip"), images, name);
  showStrip();
  say(`The strip of ${words(name)} is ready.`);
}

// ---- the controls --------------------------------------------------------------------------------

const movable = () => ({ frame: selectedFace(state).frame, photo: state.photo });
makeMovable($("frame"), $("stage"), $("corner"), movable, setFrame);
makeDivider($("compare"), $("divider"));
listenForPhotos(take, (photo) => receive(Promise.resolve(photo), "", setPhoto));
for (const id of ["frame", "zoom"]) {
  $(id).addEventListener("pointerdown", () => history.endRun());
}
$("zoom").addEventListener("input", () => {
  const { frame, photo } = movable();
  const side = (Number($("zoom").value) / 100) * Math.min(photo.width, photo.height);
  setFrame(resized(frame, side, photo));
});
for (const name of VIEWS) {
  $(`view-${name}`).addEventListener("click", () => {
    if (name !== "frame") resultView = name;
    showView(name);
    queue.request();
  });
}
$("surprise").addEventListener("click", surprise);
$("undo").addEventListener("click", undo);
$("redo").addEventListener("click", redo);
listenForShortcuts(undo, redo);
$("reset").addEventListener("click", () => {
  const { strengths } = selectedFace(state);
  if (strengths.some(Boolean)) setStrengths(strengths.map(() => 0));
});
$("detail").addEventListener("change", () => queue.request());
$("download").addEventListener("click", async () => {
  await idle();
  try {
    download(await editedCanvas(), "edited.png");
  } catch (error) {
    sayError(error);
  }
});
$("download-strip").addEventListener("click", () => download($("strip"), "strip.png"));
$("draw-strip").addEventListener("click", () => makeStrip().catch(sayError));

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
    const index = description.attributes.indexOf(attribute);
    if (index < 0) throw new Error(`${attribute}: not an attribute of this model`);
    if (!state.photo) throw new Error("no photo is chosen");
    await idle();
    const begin = performance.now();
    moveSlider(index, value, true);
    await queue.working;
    return performance.now() - begin;
  },
  input: () => shown.input,
};
