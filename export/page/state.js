// The editor's state: {photo, faces: [{frame, strengths}], selected}.
//
// It is never changed, only replaced, so that history.js can go back. frame: see frame.js;
// strengths: by the attribute's index; selected: index of the face that is edited.

import { initialFrame } from "./frame.js";

export const EMPTY = { photo: undefined, faces: [], selected: 0 };

// The state of a photo that nothing has been done to. description: model.json, once it is loaded;
// frames: of the faces that were found in it.
export function newState(photo, description, frames = [initialFrame(photo, description?.crop)]) {
  const strengths = description?.attributes.map(() => 0) ?? [];
  return { photo, faces: frames.map((frame) => ({ frame, strengths })), selected: 0 };
}

export function selectedFace({ faces, selected }) {
  return faces[selected];
}

// Another state of the history, with the face selected that the step between the two changes.
export function afterStep({ photo, faces, selected }, next) {
  if (photo !== next.photo) return next;
  const changed = faces.findIndex((face, index) => face !== next.faces[index]);
  return { ...next, selected: changed < 0 ? selected : changed };
}

// The state with other values of the selected face.
export function withFace(state, changes) {
  const face = { ...selectedFace(state), ...changes };
  return { ...state, faces: state.faces.with(state.selected, face) };
}
