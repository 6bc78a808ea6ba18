// A data directory as y-websocket's own server keeps it, written and read with npm's y-leveldb.

import { LeveldbPersistence } from 'y-leveldb'
import * as Y from 'yjs'
import { textOf } from './documents.mjs'
import { serve } from './lines.mjs'

let store

const base64 = bytes => Buffer.from(bytes).toString('base64')

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
  getMeta: ({ name, key }) => store.getMeta(name, key),

  text: async ({ name }) => textOf(await store.getYDoc(name)).toString(),
  names: () => store.getAllDocNames(),
  vectors: async ({ name }) => ({
    stored: base64(await store.getStateVector(name)),
    actual: base64(Y.encodeStateVector(await store.getYDoc(name)))
  }),

  close: () => store.destroy()
})
