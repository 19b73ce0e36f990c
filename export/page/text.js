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
