"""The attribute editor: x' = G(E(x) + sum_k strength_k * d_k), from finished models to photos.

- `editor`: the public class `Editor` and `load_editor`.
- `backends`: the forms of a model (run folder, SavedModel, TFLite file, named model) behind one
  interface; `named_models` finds those that have a name, and `tflite_file` runs .tflite files.
- `network`: encoder, directions and generator as one Keras model; `models` loads its parts.
- `faces`: the edit of the faces in a photo; `detail`: the edit that keeps the photo's detail.
- `request`: what to edit, checked against a model; `strengths`: the search for a target prediction.
- `projection`, `tuning`: inversion by optimization, and pivotal tuning of the generator.
- `description`: model.json, which describes an exported editor; `tflite_file`: whether a .tflite
  file may be loaded.

Here belongs what edits a photo with finished models, for the commands, `evaluation` and `export`
alike. Training the models does not (`stages`), nor measuring them (`evaluation`), nor writing them
in other formats (`export`), nor flags and output files (`commands`).
"""
