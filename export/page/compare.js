// The divider between the image before and the image after an edit; moved by mouse, touch and keys.

// stage: the element that shows both images; input: the range whose value is the percentage of the
// width that shows the image before.
export function makeDivider(stage, input) {
  function show() {
    stage.style.setProperty("--split", input.value);
    input.setAttribute("aria-valuetext", `${input.value} % before, ${100 - input.value} % after`);
  }

  function moveTo(event) {
    const { left, width } = stage.getBoundingClientRect();
    input.value = Math.round(((event.clientX - left) / width) * 100); // clamped to its range
    show();
  }

  let start; // the value when the pointer went down

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    start = input.value;
    stage.setPointerCapture(event.pointerId);
    input.focus({ preventScroll: true });
    event.preventDefault(); // keeps the focus
    if (event.pointerType !== "touch") moveTo(event); // a touch may become a scroll of the page
  });
  for (const type of ["pointermove", "pointerup"]) {
    stage.addEventListener(type, (event) => {
      if (stage.hasPointerCapture(event.pointerId)) moveTo(event);
    });
  }
  stage.addEventListener("pointercancel", () => {
    input.value = start; // the page scrolls instead
    show();
  });
  input.addEventListener("input", show);
  show();
}
