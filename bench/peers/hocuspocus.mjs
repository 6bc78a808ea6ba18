// Hocuspocus as its documentation sets it up, with a LevelDB in the two hooks that its Database extension has:
// a document is loaded when it is opened, and stored whole once it has not changed for two seconds (ten at most).

import { Server } from '@hocuspocus/server'
import { ClassicLevel } from 'classic-level'
import * as Y from 'yjs'

const db = new ClassicLevel(process.env.DATA, { keyEncoding: 'utf8', valueEncoding: 'buffer' })

const fetch = async name => {
  try {
    return await db.get(name)
  } catch (error) {
    if (error.code === 'LEVEL_NOT_FOUND') return undefined
    throw error
  }
}

const server = new Server({
  address: '127.0.0.1',
  port: Number(process.env.PORT),
  quiet: true,
  async onLoadDocument ({ documentName, document }) {
    const state = await fetch(documentName)
    if (state !== undefined) Y.applyUpdate(document, state)
  },
  async onStoreDocument ({ documentName, document }) {
    await db.put(documentName, Buffer.from(Y.encodeStateAsUpdate(document)))
  }
})

await db.open()
await server.listen()
