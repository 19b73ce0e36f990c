// Words for the user: the status line, names of attributes, strengths.

const status = document.getElementById("status");

export function say(text) {
  status.textContent = text;
  status.classList.remove("error");
}

export function sayError(error) {
  status.textContent = `Error: ${error.message}`;
  status.classList.add("error");
}

// "Blond_Hair" -> "Blond hair"
export function words(name) {
  const text = name.replaceAll("_", " ").toLowerCase();
  return text[0].toUpperCase() + text.slice(1);
}

// 0.5 -> "+0.50"
export function signed(value) {
  const text = Math.abs(value).toFixed(2);
  return Number(text) === 0 ? "0.00" : `${value < 0 ? "−" : "+"}${text}`;
}

// "face 1: Smiling +0.50; face 3: Bangs −1.00"; if there is only one face, without its number.
export function facesInWords(attributes, faces) {
  const edits = faces.map(({ strengths }) => inWords(attributes, strengths));
  if (edits.length === 1) return edits[0];
  return edits.flatMap((edit, index) => (edit ? `face ${index + 1}: ${edit}` : [])).join("; ");
}

// ["Smiling", "Bangs"], [0.5, -1] -> "Smiling +0.50, Bangs −1.00"; attributes at 0 are left out.
export function inWords(attributes, strengths) {
  return attributes
    .map((name, index) => [name, strengths[index]])
    .filter(([, strength]) => strength)
    .map(([name, strength]) => `${words(name)} ${signed(strength)}`)
    .join(", ");
}
