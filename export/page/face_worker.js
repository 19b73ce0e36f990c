// Finds faces in a worker, so that the page stays responsive.
//
// In:  {id, cascades} once, the content of cascades.json; then {id, photo: {data, width, height}}.
// Out: {id, outputs: the boxes of the faces} or {id, error: one line}.

import { FaceDetector } from "./face_detection.js";

let detector;

self.onmessage = ({ data: { id, cascades, photo } }) => {
  try {
    if (cascades) detector = new FaceDetector(cascades);
    self.postMessage({ id, outputs: photo && detector.find(photo) });
  } catch (error) {
    self.postMessage({ id, error: `the search for faces failed (${error.message})` });
  }
};
