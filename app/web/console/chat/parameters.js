/** The system prompt and the parameters of a conversation, in a panel beside it. */

import { field, fill, h } from "../shared/dom.js";
import { iconButton } from "../shared/icons.js";

/** @typedef {import("./conversation.js").Conversation} Conversation */

/** What may be set, by the names of the API; what is left empty is the model's own. */
const NUMBERS = [
  {
    name: "temperature",
    text: "Temperature",
    min: 0,
    max: 2,
    step: 0.05,
    hint: "0 always takes the likeliest token.",
  },
  { name: "top_p", text: "Top p", min: 0, max: 1, step: 0.01 },
  { name: "top_k", text: "Top k", min: 0, max: 1000, step: 1 },
  { name: "min_p", text: "Min p", min: 0, max: 1, step: 0.01 },
  {
    name: "max_tokens",
    text: "Longest answer",
    min: 1,
    max: 1000000,
    step: 1,
    hint: "In tokens.",
  },
  {
    name: "seed",
    text: "Seed",
    min: 0,
    max: 2 ** 53 - 1,
    step: 1,
    hint: "The same seed gives the same answer.",
  },
  {
    name: "repetition_penalty",
    text: "Repetition penalty",
    min: 0.01,
    max: 10,
    step: 0.01,
  },
  {
    name: "presence_penalty",
    text: "Presence penalty",
    min: -2,
    max: 2,
    step: 0.1,
  },
  {
    name: "frequency_penalty",
    text: "Frequency penalty",
    min: -2,
    max: 2,
    step: 0.1,
  },
];
const EFFORTS = ["", "none", "minimal", "low", "medium", "high"];
const JSONS = [
  {
    name: "tools",
    text: "Tools",
    hint: "A list of functions, as in OpenAI's API.",
  },
  {
    name: "response_format",
    text: "Response format",
    hint: 'Such as {"type": "json_object"}.',
  },
];

/**
 * The panel; `changed` is called once something was set.
 * @param {() => void} changed
 * @param {() => void} close
 */
export function makeParameters(changed, close) {
  const element = h("aside", {
    class: "parameters",
    "aria-label": "Parameters",
    hidden: true,
  });

  /** What the fields were made of. */
  let shown = "";

  /**
   * Make the fields anew if there is something else in them: what is half written stays.
   * @param {Conversation} conversation
   */
  function show(conversation) {
    if (shown === valuesOf(conversation)) return;
    shown = valuesOf(conversation);
    const { parameters: given } = conversation;

    function changedHere() {
      shown = valuesOf(conversation);
      changed();
    }

    /**
     * @param {string} name
     * @param {any} value nothing for what is the model's own
     */
    function set(name, value) {
      const { parameters } = conversation;
      if (value === undefined || value === "") delete parameters[name];
      else parameters[name] = value;
      changedHere();
    }
    fill(
      element,
      h("header", { class: "row" }, h("h2", { class: "grow" }, "Parameters"), iconButton("cross", "Close", close)),
      field("System prompt", systemPrompt(conversation, changedHere)),
      h("div", { class: "pairs" }, ...NUMBERS.map((one) => numberField(one, given[one.name], set))),
      field("Reasoning effort", effort(given.reasoning_effort, set)),
      field("Stop at", stops(given.stop, set), "One text a line."),
      ...JSONS.map((one) => jsonField(one, given[one.name], set)),
    );
  }
  return { element, show };
}

/** @param {Conversation} conversation */
function valuesOf({ id, system, parameters }) {
  return JSON.stringify([id, system, parameters]);
}

/**
 * @param {Conversation} conversation
 * @param {() => void} changed
 */
function systemPrompt(conversation, changed) {
  return h("textarea", {
    rows: 4,
    value: conversation.system,
    placeholder: "You are a helpful assistant.",
    onchange: (/** @type {any} */ event) => {
      conversation.system = event.target.value;
      changed();
    },
  });
}

/**
 * @param {typeof NUMBERS[number]} about
 * @param {number | undefined} value
 * @param {(name: string, value: any) => void} set
 */
function numberField({ name, text, hint, ...bounds }, value, set) {
  const input = h("input", {
    type: "number",
    ...bounds,
    value: value ?? "",
    placeholder: "model's own",
    onchange: () => {
      if (input.reportValidity()) set(name, input.value === "" ? undefined : Number(input.value));
    },
  });
  return field(text, input, hint);
}

/**
 * @param {string | undefined} value
 * @param {(name: string, value: any) => void} set
 */
function effort(value, set) {
  const options = EFFORTS.map((one) =>
    h("option", { value: one, selected: one === (value ?? "") }, one || "model's own"),
  );
  const select = h("select", { onchange: () => set("reasoning_effort", select.value) }, ...options);
  return select;
}

/**
 * @param {string[] | undefined} value
 * @param {(name: string, value: any) => void} set
 */
function stops(value, set) {
  const area = h("textarea", {
    rows: 2,
    value: value?.join("\n") ?? "",
    onchange: () => {
      const lines = area.value.split("\n").filter(Boolean);
      set("stop", lines.length ? lines : undefined);
    },
  });
  return area;
}

/**
 * @param {typeof JSONS[number]} about
 * @param {any} value
 * @param {(name: string, value: any) => void} set
 */
function jsonField({ name, text, hint }, value, set) {
  const area = h("textarea", {
    rows: 3,
    class: "mono",
    spellcheck: "false",
    value: value === undefined ? "" : JSON.stringify(value, null, 2),
    oninput: () => area.setCustomValidity(""),
    onchange: () => {
      try {
        set(name, area.value.trim() ? JSON.parse(area.value) : undefined);
      } catch (error) {
        area.setCustomValidity(`This is no JSON: ${/** @type {Error} */ (error).message}`);
        area.reportValidity();
      }
    },
  });
  return field(text, area, hint);
}
