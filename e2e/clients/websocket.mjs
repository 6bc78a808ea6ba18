// Any number of y-websocket clients, of either version, each with a document of its own.

import WebSocket from 'ws'
import * as Y from 'yjs'
import { WebsocketProvider as Version3 } from 'y-websocket'
import { WebsocketProvider as Version15 } from 'y-websocket15'
import { documentCommands, randomFrom, textOf, turn } from './documents.mjs'
import { emit, serve, until } from './lines.mjs'

const providers = { '1.5': Version15, 3: Version3 }
const clients = new Map()
process.setMaxListeners(0) // each provider listens for the end of the process; node warns from eleven on

const find = ({ name }) => {
  const client = clients.get(name)
  if (client === undefined) throw new Error(`no client is called ${name}`)
  return client
}

const synced = provider => until(provider, 'sync', () => provider.synced)

serve({
  ...documentCommands(find),

  open: async ({ name, url, room, version, state }) => {
    const doc = new Y.Doc()
    // Clients of one process would otherwise talk past the server, over the BroadcastChannel.
    const provider = new providers[version](url, room, doc, { WebSocketPolyfill: WebSocket, disableBc: true })
    clients.set(name, { doc, provider, awareness: provider.awareness })
    provider.on('status', ({ status }) => emit(status, { name }))
    provider.on('connection-close', event => emit('closed', { name, code: event?.code ?? null }))
    if (state !== undefined) provider.awareness.setLocalState(state)
    await synced(provider)
  },

  untilSynced: args => synced(find(args).provider),

  /** Leave like a closing editor: awareness first, then the socket. */
  close: args => find(args).provider.destroy(),

  /** Type as fast as the machine can, anywhere in the text, and now and then delete what is there. */
  storm: async ({ name, seed, letter, edits, deletes = false }) => {
    const text = textOf(find({ name }).doc)
    const random = randomFrom(seed)
    for (let i = 0; i < edits; i++) {
      const at = Math.floor(random() * text.length)
      if (deletes && text.length > 0 && random() < 0.3) text.delete(at, 1)
      else text.insert(at, letter)
      await turn()
    }
  }
})
