// Where photos come from: files that are chosen, dropped or pasted, and the camera; and shortcuts.

import { closeCamera, openCamera, shoot } from "./photo.js";
import { sayError } from "./text.js";

const $ = (id) => document.getElementById(id);

// take: called with a file; set: called with a photo of the camera.
export function listenForPhotos(take, set) {
  listenForFiles(take);
  listenForCamera(set);
}

function listenForFiles(take) {
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
}

function listenForCamera(set) {
  const [dialog, video] = [$("camera-dialog"), $("video")];
  $("camera").addEventListener("click", async () => {
    try {
      await openCamera(video);
      dialog.showModal();
    } catch (error) {
      closeCamera(video);
      sayError(error);
    }
  });
  $("shutter").addEventListener("click", () => {
    if (!video.videoWidth) return; // no picture yet
    const shot = shoot(video);
    dialog.close();
    set(shot);
  });
  $("camera-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => closeCamera(video)); // by Escape too
}

// Ctrl+Z or Cmd+Z, and with Shift; also Ctrl+Y.
export function listenForShortcuts(undo, redo) {
  document.addEventListener("keydown", (event) => {
    const { ctrlKey, metaKey, altKey, shiftKey } = event;
    if (!(ctrlKey || metaKey) || altKey || $("camera-dialog").open) return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    if (key === "y" || shiftKey) redo();
    else undo();
  });
}
