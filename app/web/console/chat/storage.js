/** Conversations are kept in this browser's IndexedDB, and nowhere else. */

const NAME = "mlx-server";
const STORE = "conversations";

/** @type {Promise<IDBDatabase> | undefined} */
let opened;

/**
 * All of them, the latest first.
 * @returns {Promise<import("./conversation.js").Conversation[]>}
 */
export async function allConversations() {
  const all = await done((await store("readonly")).getAll());
  return all.sort((a, b) => b.updated - a.updated);
}

/** @param {import("./conversation.js").Conversation} conversation */
export async function keep(conversation) {
  await done((await store("readwrite")).put(conversation));
}

/** @param {string} id */
export async function forget(id) {
  await done((await store("readwrite")).delete(id));
}

/** @param {IDBTransactionMode} mode */
async function store(mode) {
  opened ??= open();
  return (await opened).transaction(STORE, mode).objectStore(STORE);
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
