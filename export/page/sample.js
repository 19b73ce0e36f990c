// Random faces, which the model makes up.

// Whether the page can sample: only latents of the space z have a prior that the page knows.
export function canSample({ space }) {
  return space === "z";
}

// A code from the model's prior, without detail features, which only a photo has.
//
// random: returns numbers in [0, 1).
export function sampleCode(description, random = Math.random) {
  const { prior, latent_shape: shape, features_shape: features } = description;
  const draw = prior === "uniform" ? () => 2 * random() - 1 : () => normal(random);
  const code = { latent: Float32Array.from({ length: count(shape) }, draw) };
  if (count(features)) code.features = new Float32Array(count(features));
  return code;
}

// One number from N(0, 1), by the Box-Muller transform.
function normal(random) {
  const radius = Math.sqrt(-2 * Math.log(1 - random()));
  return radius * Math.cos(2 * Math.PI * random());
}

function count(shape) {
  return shape.reduce((product, side) => product * side, 1);
}
