// A data directory as y-websocket's own server keeps it, written and read with npm's y-leveldb.

import { getLevelUpdates, LeveldbPersistence } from 'y-leveldb'
import * as Y from 'yjs'
import { textOf } from './documents.mjs'
import { serve } from './lines.mjs'

let store

/** What a state vector says; the order of the clients in it is free. */
const read = vector => [...Y.decodeStateVector(vector)].sort()

serve({
  open: ({ directory }) => { store = new LeveldbPersistence(directory) },

  /** Store a text letter by letter, each an update of its own, as y-websocket's server does while somebody types. */
  type: async ({ name, text, flush = false }) => {
    const doc = await store.getYDoc(name)
    const updates = []
    doc.on('update', update => updates.push(update))
    for (const letter of text) textOf(doc).insert(textOf(doc).length, letter)
    for (const update of updates) await store.storeUpdate(name, update)
    if (flush) await store.flushDocument(name)
  },

  setMeta: ({ name, key, value }) => store.setMeta(name, key, value),
  metas: async ({ name }) => Object.fromEntries(await store.getMetas(name)),
  clear: ({ name }) => store.clearDocument(name),
  getMeta: ({ name, key }) => store.getMeta(name, key),

  text: async ({ name }) => textOf(await store.getYDoc(name)).toString(),
  names: () => store.getAllDocNames(),
  vectors: async ({ name }) => ({
    stored: read(await store.getStateVector(name)),
    actual: read(Y.encodeStateVector(await store.getYDoc(name)))
  }),

  /** Merge a document's updates into one, as y-websocket's server does with many. */
  flush: ({ name }) => store.flushDocument(name),
  /** The numbers of a document's updates, and that of the one whose state vector is stored: y-leveldb's word for both is clock. */
  clocks: async ({ name }) => ({
    updates: (await store._transact(db => getLevelUpdates(db, name, { keys: true, values: false }))).map(key => key[3]),
    vector: (await store.getAllDocStateVectors()).find(found => found.name === name).clock
  }),
  store: ({ name, update }) => store.storeUpdate(name, Buffer.from(update, 'base64')),

  close: () => store.destroy()
})
