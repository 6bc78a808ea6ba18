// The connection that the reference client's signaling and inbox are built on.

import WebSocket from 'ws'
import { Connection } from '../../playground/src/client/connection.ts'
import { emit, serve } from './lines.mjs'

globalThis.WebSocket = WebSocket

let connection

serve({
  /** Connect; with `tokens`, each request for a token gets the next one. The clock stands still at `now`, in seconds. */
  connect: ({ url, tokens, now }) => {
    if (now !== undefined) Date.now = () => now * 1000
    connection = new Connection({
      url,
      getToken: tokens && (async old => {
        emit('asked', { old: old ?? null })
        return tokens.shift()
      }),
      probe: { type: 'ping' },
      onOpen: token => connection.send({ type: 'hello', token }),
      onRenew: token => connection.send({ type: 'renewed', token }),
      onMessage: ({ type }) => type === 'accepted' && connection.accepted(),
      onState: (state, reason) => emit(state, { reason, at: performance.now() })
    })
    connection.connect()
  },

  close: () => connection.close()
})
