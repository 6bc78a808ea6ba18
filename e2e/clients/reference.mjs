// The three modules of the reference client, on their own: the place in a room, a document, and an inbox.

import WebSocket from 'ws'
import { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { Inbox } from '../../playground/src/client/inbox.ts'
import { Signaling } from '../../playground/src/client/signaling.ts'
import { Sync } from '../../playground/src/client/sync.ts'
import { emit, serve } from './lines.mjs'

globalThis.WebSocket = WebSocket

const create = {
  signaling: options => new Signaling(options),
  sync: options => {
    const doc = new Y.Doc()
    return new Sync({ ...options, doc, awareness: new Awareness(doc) })
  },
  notification: options => new Inbox(options)
}

serve({
  /** Connect to a server. With `tokens`, each request for a token gets the next one, and fails if that is null.
      With `chance`, all random numbers are this one. */
  connect: ({ kind, url, room, user, tokens, chance }) => {
    if (chance !== undefined) Math.random = () => chance
    create[kind]({
      url,
      room,
      userId: user,
      getToken: tokens && (async old => {
        emit('asked', { old: old ?? null })
        const token = tokens.shift()
        if (token === null) throw new Error('no answer')
        return token
      }),
      onState: (state, reason) => emit(state, { reason, at: performance.now() })
    }).connect()
  }
})
