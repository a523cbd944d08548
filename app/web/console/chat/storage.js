/**
 * Conversations are kept in this browser's IndexedDB, and nowhere else. Several tabs may have the same one open: each
 * is told of what the others do.
 */

import { join } from "./conversation.js";

/** @typedef {import("./conversation.js").Conversation} Conversation */

const NAME = "mlx-server";
const STORE = "conversations";

/** @type {Promise<IDBDatabase> | undefined} */
let opened;
/** @type {IDBDatabase | undefined} once it is open */
let database;

/**
 * Those that were found or put here: one that is gone since was deleted in another tab.
 * @type {Set<string>}
 */
const known = new Set();
const tabs = new BroadcastChannel(NAME);

/**
 * Hear of what other tabs keep and delete.
 * @param {(id: string) => void} changed
 */
export function watch(changed) {
  tabs.onmessage = ({ data }) => changed(data);
}

/**
 * All of them, the latest first.
 * @returns {Promise<Conversation[]>}
 */
export async function allConversations() {
  const all = await done((await store("readonly")).getAll());
  for (const { id } of all) known.add(id);
  return all.sort((a, b) => b.updated - a.updated);
}

/**
 * One of them, as it is kept; nothing if it was deleted.
 * @param {string} id
 * @returns {Promise<Conversation | undefined>}
 */
export async function oneConversation(id) {
  const kept = await done((await store("readonly")).get(id));
  if (kept) known.add(id);
  return kept;
}

/**
 * Keep a conversation, which takes over what other tabs have kept of it. False if another one has deleted it.
 * @param {Conversation} conversation
 * @param {boolean} [tells] the other tabs
 */
export async function keep(conversation, tells = true) {
  const { id } = conversation;
  const conversations = await store("readwrite");
  const kept = await done(conversations.get(id));
  if (!kept && known.has(id)) return false;
  if (kept) join(conversation, kept);
  conversations.put(conversation);
  await ended(conversations.transaction);
  known.add(id);
  if (tells) tabs.postMessage(id);
  return true;
}

/**
 * Keep a conversation as the page goes: no answer of the disk can be waited for, nor what other tabs have kept of it be
 * read.
 * @param {Conversation} conversation
 */
export function keepAtOnce(conversation) {
  const transaction = database?.transaction(STORE, "readwrite");
  transaction?.objectStore(STORE).put(conversation);
  transaction?.commit();
  tabs.postMessage(conversation.id);
}

/** @param {string} id */
export async function forget(id) {
  const conversations = await store("readwrite");
  conversations.delete(id);
  await ended(conversations.transaction);
  tabs.postMessage(id);
}

/** @param {IDBTransactionMode} mode */
async function store(mode) {
  database = await (opened ??= open());
  return database.transaction(STORE, mode).objectStore(STORE);
}

function open() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
  return done(request);
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * Returns once all of it is on the disk: a full one is often told of after each request has succeeded.
 * @param {IDBTransaction} transaction
 * @returns {Promise<void>}
 */
function ended(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("The browser gave up."));
  });
}
