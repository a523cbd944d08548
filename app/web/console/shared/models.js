/** What models the server has, as the views need to know them. */

import { askJson } from "./api.js";
import { inBytes } from "./format.js";

/**
 * `size` is that of its weights, `needs` the memory that it takes when it is loaded, both in bytes to a hundredth of a
 * gibibyte; `takes` and
 * `gives` are modalities.
 * @typedef {{
 *   name: string, type: string, status: string, pinned: boolean, context: number | null, size: number | null,
 *   needs: number | null, usedAt: string | null, takes: string[], gives: string[],
 * }} Model
 */

/**
 * All models that requests may name.
 * @returns {Promise<Model[]>}
 */
export async function listModels() {
  const { data, models } = await askJson("/v1/models");
  return data.map((/** @type {any} */ one, /** @type {number} */ at) => ({
    name: one.id,
    type: models[at].type,
    status: one.status,
    pinned: models[at].pinned,
    context: one.context_length,
    size: inBytes(models[at].size_gb),
    needs: inBytes(models[at].memory_required_gb),
    usedAt: models[at].last_used_at,
    takes: one.modalities.input,
    gives: one.modalities.output,
  }));
}

/** @param {Model} model */
export function writes(model) {
  return model.type === "text" || model.type === "vision";
}

/** @param {Model} model */
export function draws(model) {
  return model.type === "image";
}

/** @param {Model} model a model for sounds, which hears unless it is known not to */
export function hears(model) {
  return model.type === "audio" && model.gives.includes("text");
}
