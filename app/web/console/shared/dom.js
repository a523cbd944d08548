/** Elements, made in one expression. */

/**
 * Make an element. A property that is a function listens (`onclick`), `value`, `checked`, `disabled`, `open`, `hidden`
 * and `selected` are set on the element, anything else is an attribute; null, undefined and false are left out.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string | number | null | undefined | false)} children
 * @returns {HTMLElement & Record<string, any>}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (OWN.has(name) || (name === "value" && "value" in element))
      /** @type {any} */ (element)[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...given(children));
  return element;
}

const OWN = new Set(["checked", "disabled", "hidden", "open", "selected"]);

/**
 * Put other content in the place of an element's. What has the focus keeps it if the new content has an element of the
 * same `data-keep`; nothing is scrolled for it.
 * @param {Element} element
 * @param {...(Node | string | number | null | undefined | false)} children
 */
export function fill(element, ...children) {
  const active = document.activeElement;
  const kept = active instanceof HTMLElement && element.contains(active) ? active.dataset.keep : undefined;
  element.replaceChildren(...given(children));
  if (!kept) return;
  const next = /** @type {HTMLElement | null} */ (element.querySelector(`[data-keep="${CSS.escape(kept)}"]`));
  next?.focus({ preventScroll: true });
}

/**
 * Whether a key belongs to an input method, which has not ended what is written; Safari says so of its last Enter by the
 * code alone.
 * @param {KeyboardEvent} event
 */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}

/**
 * An SVG element with attributes.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(Node | string)} children
 */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * A labelled field: the control stands in its label.
 * @param {string} text
 * @param {HTMLElement} control
 * @param {string} [hint]
 */
export function field(text, control, hint) {
  return h("label", { class: "field" }, h("span", {}, text), control, hint && h("small", {}, hint));
}

/** How long a notice stays: so long, and for each character longer, in milliseconds. */
const [NOTICE_MS, CHARACTER_MS] = [4000, 60];

/**
 * Say something at the top of the page, for as long as it takes to read it or until it is closed.
 * @param {string} text
 */
export function notice(text) {
  const close = {
    class: "bare",
    type: "button",
    title: "Dismiss",
    "aria-label": "Dismiss",
    onclick: () => line.remove(),
  };
  const line = h("p", { class: "notice" }, h("span", {}, text), h("button", close));
  document.getElementById("notices")?.append(line);
  setTimeout(() => line.remove(), NOTICE_MS + CHARACTER_MS * text.length);
}

/**
 * Say at the top of the page what went wrong.
 * @param {unknown} error
 */
export function tell(error) {
  notice(/** @type {Error} */ (error).message);
}

/** @param {(Node | string | number | null | undefined | false)[]} children */
function given(children) {
  return children.flatMap((one) =>
    one === null || one === undefined || one === false ? [] : [typeof one === "number" ? String(one) : one],
  );
}
