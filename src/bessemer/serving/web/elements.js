// Elements are made of texts alone: what a document says never becomes markup, an address or a script.
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

// Controls, and marks that reorder text, are seen as such.
function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return text.toWellFormed().replace(UNSAFE, "\ufffd");
}

// `attributes` are constants of this page; `children` are elements, or anything to be shown as text.
function made(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.map((child) => (child instanceof Node ? child : shown(child))));
  return element;
}

function button(attributes, label, onClick) {
  const element = made("button", { type: "button", class: "quiet", ...attributes }, ...[label].flat());
  element.addEventListener("click", onClick);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

function hand() {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 16 16");
  picture.setAttribute("aria-hidden", "true");
  const outline = document.createElementNS(SVG, "path");
  outline.setAttribute("d", "M5 7v7H2V7zm0 0 3-5.5c1.3 0 1.9 1 1.6 2.2L9 6.5h4.2c.8 0 1.4.8 1.2 1.6l-1.2 4.8c-.2.7-.7 1.1-1.4 1.1H5");
  picture.append(outline);
  return picture;
}

function number(value, digits = 4) {
  return Number.isFinite(value) ? String(Number(value.toPrecision(digits))) : "–";
}

function characters(n) {
  return n.toLocaleString(language);
}
