/** What of the server may be changed while it runs. */

import { askJson } from "../shared/api.js";
import { field, fill, h, notice, tell } from "../shared/dom.js";

/** The settings that do something, in the words of people; the rest is kept for other clients only. */
const SETTINGS = [
  {
    key: "max_concurrent_requests",
    text: "Requests that a model answers together",
    min: 1,
    max: 1024,
  },
  {
    key: "auto_unload_inactive_models",
    text: "Unload models that nobody uses",
  },
  {
    key: "model_inactivity_timeout_minutes",
    text: "After so many minutes",
    min: 1,
    max: 10080,
  },
  {
    key: "log_level",
    text: "How much is logged",
    choices: ["DEBUG", "INFO", "WARNING", "ERROR"],
  },
];
const WHEN = {
  now: "",
  next_load: "It holds for models that are loaded from now on.",
  next_start: "It holds from the next start on.",
  kept_only: "It does not hold: the command line, the environment or the configuration file wins.",
};

export function makeServerSettings() {
  const fields = h("div", { class: "fields" });
  const element = h("fieldset", { class: "card" }, h("legend", {}, "Server"), fields);

  async function read() {
    const values = await askJson("/v1/settings");
    fill(fields, ...SETTINGS.map((setting) => shown(setting, values[setting.key])));
  }

  /**
   * @param {typeof SETTINGS[number]} setting
   * @param {any} value
   */
  function shown({ key, text, choices, ...bounds }, value) {
    if (choices) {
      const select = h(
        "select",
        { onchange: () => change(key, select.value) },
        ...choices.map((one) => h("option", { selected: one === value }, one)),
      );
      return field(text, select);
    }
    if (typeof value === "boolean") {
      const box = h("input", {
        type: "checkbox",
        checked: value,
        onchange: () => change(key, box.checked),
      });
      return h("label", { class: "choice" }, box, text);
    }
    const input = h("input", {
      type: "number",
      ...bounds,
      required: true,
      value,
      onchange: () => input.reportValidity() && change(key, Number(input.value)),
    });
    return field(text, input);
  }

  /**
   * @param {string} key
   * @param {any} value
   */
  async function change(key, value) {
    try {
      const { effect } = await askJson(`/v1/settings/${key}`, {
        method: "PUT",
        body: { value },
      });
      notice(`Saved. ${WHEN[/** @type {keyof typeof WHEN} */ (effect)] ?? ""}`.trim());
    } catch (error) {
      tell(error);
      await read().catch(tell);
    }
  }
  return { element, read };
}
