// Concurrent typing, recorded or invented, replayed through the sync server by one client per author.

import { once } from 'node:events'
import * as encoding from 'lib0/encoding'
import WebSocket from 'ws'
import * as syncProtocol from 'y-protocols/sync'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { documentCommands } from './documents.mjs'
import { serve, until } from './lines.mjs'
import { invented, recorded } from './sessions.mjs'

let session
const clients = new Map()

const open = async ({ name, url, room }) => {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(url, room, doc, { WebSocketPolyfill: WebSocket, disableBc: true })
  clients.set(name, { doc })
  await until(provider, 'sync', () => provider.synced)
}

const take = ({ session: taken, endContent }) => {
  session = taken
  return { edits: session.version, texts: session.texts, endContent }
}

const updateMessage = update => {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, 0)
  syncProtocol.writeUpdate(encoder, update)
  return encoding.toUint8Array(encoder)
}

/** Send edits without a provider, which would wait with what it cannot apply; return when the server has read them. */
const send = async (socket, edits) => {
  for (const { update } of edits) socket.send(updateMessage(update))
  socket.ping()
  await once(socket, 'pong')
}

const close = async socket => {
  socket.close()
  await once(socket, 'close')
}

serve({
  ...documentCommands(({ name }) => clients.get(name)),
  open,

  load: ({ path }) => take(recorded(path)),
  invent: ({ seed, edits }) => take(invented(seed, edits)),

  /** Each author is a y-websocket client that makes an edit as soon as it has what the edit was made on. */
  replay: ({ url, room }) => Promise.all(session.authors.map(async ({ name, edits }) => {
    await open({ name, url, room })
    const { doc } = clients.get(name)
    const ids = session.authors.map(author => author.doc.clientID)
    const has = needs => needs.every((clock, index) => Y.getState(doc.store, ids[index]) >= clock)
    for (const { update, needs } of edits) {
      if (!has(needs)) await until(doc, 'update', () => has(needs))
      Y.applyUpdate(doc, update, name)
    }
  })),

  /**
   * The authors do not wait for each other, the way edits arrive that they have exchanged over WebRTC already: of
   * every `block` edits those of the last author come first, so the server gets many before what they build on.
   */
  race: async ({ url, room, block }) => {
    const lanes = session.authors.map(author => ({ author, socket: new WebSocket(`${url}/${room}`) })).reverse()
    await Promise.all(lanes.map(({ socket }) => once(socket, 'open')))
    for (let start = 0; start < session.edits.length; start += block) {
      const edits = session.edits.slice(start, start + block)
      for (const { author, socket } of lanes) await send(socket, edits.filter(edit => edit.author === author))
    }
    for (const { socket } of lanes) await close(socket)
  },

  /** One author sends everything and leaves; the other is not there at all. */
  sendAlone: async ({ url, room, author }) => {
    const socket = new WebSocket(`${url}/${room}`)
    await once(socket, 'open')
    await send(socket, session.authors[author].edits)
    await close(socket)
  }
})
