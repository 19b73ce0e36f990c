// The editor's state: {photo, faces: [{frame, strengths}], selected}.
//
// It is never changed, only replaced, so that history.js can go back. frame: see frame.js;
// strengths: by the attribute's index; selected: index of the face that is edited.

import { initialFrame } from "./frame.js";

export const EMPTY = { photo: undefined, faces: [], selected: 0 };

// The state of a photo that nothing has been done to. description: model.json, once it is loaded.
export function newState(photo, description) {
  const frame = initialFrame(photo, description?.crop);
  const strengths = description?.attributes.map(() => 0) ?? [];
  return { photo, faces: [{ frame, strengths }], selected: 0 };
}

export function selectedFace({ faces, selected }) {
  return faces[selected];
}

// The state with other values of the selected face.
export function withFace(state, changes) {
  const face = { ...selectedFace(state), ...changes };
  return { ...state, faces: state.faces.with(state.selected, face) };
}
