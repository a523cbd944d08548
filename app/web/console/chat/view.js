/** The chat view: conversations at the left, messages in the middle, parameters at the right. */

import { fill, h, isComposing, tell } from "../shared/dom.js";
import { iconButton } from "../shared/icons.js";
import { draws, hears, listModels, writes } from "../shared/models.js";
import { showAsCode } from "./as_code.js";
import { Chat } from "./chat.js";
import { makeComposer } from "./composer.js";
import { branch } from "./conversation.js";
import { makeParameters } from "./parameters.js";
import { lastRequest } from "./request.js";
import { makeSidebar } from "./sidebar.js";
import { listVoices, makeReader } from "./speech.js";
import { makeThread } from "./thread.js";

const NO_MODEL = "This server has no model that writes or draws. Get one in Models.";

/** @type {import("../main.js").View} */
export const chatView = {
  name: "chat",
  title: "Chat",
  icon: "chat",
  make(place) {
    const view = makeView(place);
    return { enter: view.enter, leave: view.leave };
  },
};

/** @param {HTMLElement} place */
function makeView(place) {
  /** @type {import("../shared/models.js").Model | undefined} */
  let listener;
  /** Why it is not known which models there are; empty once it is. */
  let unknown = "Asking the server";
  /** @type {Promise<void>} fulfilled once it is known which models there are */
  let entered = Promise.resolve();
  const chat = new Chat({
    all: showAll,
    list: () => sidebar.show(chat.conversations, chat.current.id),
    one: (message, waiting) => thread.update(message.id, waiting),
  });
  const sidebar = makeSidebar({
    start: () => leaveSidebar(() => chat.start()),
    open: (one) => leaveSidebar(() => chat.open(one)),
    remove: (one) => chat.remove(one),
  });
  const reader = makeReader((id) => thread.mark(id));
  /** @type {import("./message.js").Actions} */
  const actions = {
    again: (message) => ask(() => from(thread, chat.again(message))),
    edit: (message, text, taken) =>
      ask(() => {
        taken();
        return from(composer, chat.edit(message, text));
      }),
    turn: (message, by) => chat.turn(message, by),
    results: (message, results) => ask(() => from(composer, chat.results(message, results))),
    isRead: ({ id }) => reader.reads(id),
    silence: reader.stop,
  };
  const thread = makeThread(actions);
  const composer = makeComposer({
    send: (text, files) => chat.send(text, files),
    stop: () => chat.stop(),
    open: () => chat.current,
    models: async () => {
      await known();
      return { model: chat.model, listener };
    },
  });
  const parameters = makeParameters(() => chat.changed(), toggleParameters);
  const picker = h("select", { "aria-label": "Model", onchange: pick });
  const toggle = iconButton("sliders", "Parameters", toggleParameters, { "aria-expanded": "false" });
  const bar = h(
    "header",
    { class: "chat-bar" },
    iconButton("menu", "Conversations", () => place.classList.add("listing"), { class: "bare only-narrow" }),
    picker,
    h("span", { class: "grow" }),
    iconButton("code", "Copy as curl or Python", () =>
      ask(() => showAsCode(lastRequest(chat.current, Boolean(chat.model && draws(chat.model))))),
    ),
    toggle,
  );
  place.append(sidebar.element, h("div", { class: "talk" }, bar, thread.element, composer.element), parameters.element);
  for (const part of [bar, thread.element]) {
    part.addEventListener("click", () => place.classList.remove("listing"), { capture: true });
  }
  place.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || isComposing(event)) return;
    if (place.classList.contains("listing")) place.classList.remove("listing");
    else if (!reader.stop()) chat.stop();
  });
  place.addEventListener("dragover", (event) => event.preventDefault());
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    composer.take([...(event.dataTransfer?.files ?? [])]);
  });

  let atEnd = true;

  /** A thread that grows unseen is followed on if it was before. */
  function leave() {
    atEnd = thread.isAtEnd();
  }

  async function enter() {
    if (atEnd) thread.toEnd();
    entered = refresh();
    await entered.catch(tell);
    composer.focus();
  }

  async function refresh() {
    try {
      await chat.restore();
      const models = await listModels();
      unknown = "";
      listener = models.find(hears);
      chat.serve(models.filter((one) => writes(one) || draws(one)));
    } catch (error) {
      if (unknown) {
        unknown = /** @type {Error} */ (error).message;
        showAll();
      }
      throw error;
    }
    await findVoice().catch(tell);
  }

  /** Wait until it is known which models there are; the server is asked again if it could not say. */
  async function known() {
    const asked = entered;
    try {
      await asked;
    } catch {
      if (entered === asked) entered = refresh();
      await entered;
    }
    if (!chat.model) throw new Error(NO_MODEL);
  }

  /** @param {() => unknown} act what needs to know its model; nothing is done once another conversation is open */
  async function ask(act) {
    const { current } = chat;
    try {
      await known();
      if (chat.current === current) await act();
    } catch (error) {
      tell(error);
    }
  }

  /**
   * Go on at a part of the view, as what was pressed is there no more.
   * @template T
   * @param {{ focus: () => void }} part
   * @param {T} begun
   */
  function from(part, begun) {
    part.focus();
    return begun;
  }

  async function findVoice() {
    const [voice] = await listVoices();
    const before = Boolean(actions.speak);
    actions.speak = voice && ((message) => reader.read(message, voice));
    if (before !== Boolean(voice)) showAll();
  }

  function showAll() {
    const { current, models } = chat;
    sidebar.show(chat.conversations, current.id);
    fill(
      picker,
      ...models.map((one) => h("option", { value: one.name, selected: one.name === current.model }, one.name)),
    );
    picker.hidden = !models.length;
    if (!branch(current).some(({ id }) => reader.reads(id))) reader.stop();
    thread.show(current, welcome());
    const running = chat.running.get(current.id);
    if (running) chat.show(running);
    composer.setRunning(Boolean(running));
    parameters.show(current);
  }

  function welcome() {
    const { model } = chat;
    if (unknown) return h("p", { class: "welcome quiet" }, unknown);
    const able = model && [
      draws(model) ? "It draws what you describe." : "Write a message to begin.",
      model.takes.includes("image") && "It sees pictures: drop or paste them.",
      model.takes.includes("audio") && "It hears sounds: drop them.",
    ];
    const text = model ? able?.filter(Boolean).join(" ") : NO_MODEL;
    return h(
      "div",
      { class: "welcome" },
      h("h1", {}, model ? model.name : "No model yet"),
      h("p", { class: "quiet" }, text ?? ""),
    );
  }

  function pick() {
    chat.current.model = picker.value;
    chat.changed();
    showAll();
  }

  function toggleParameters() {
    parameters.element.hidden = !parameters.element.hidden;
    toggle.setAttribute("aria-expanded", String(!parameters.element.hidden));
    if (parameters.element.hidden) toggle.focus();
  }

  /** @param {() => void} act */
  function leaveSidebar(act) {
    place.classList.remove("listing");
    act();
    composer.focus();
  }
  return { enter, leave };
}
