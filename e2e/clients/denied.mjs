// A y-websocket client of either version that is refused, and when it connects.

import WebSocket from 'ws'
import * as Y from 'yjs'
import { WebsocketProvider as Version3 } from 'y-websocket'
import { WebsocketProvider as Version15 } from 'y-websocket15'
import { emit, serve } from './lines.mjs'

const providers = { '1.5': Version15, 3: Version3 }
console.warn = text => emit('denied', { text: String(text) })

serve({
  open: ({ url, room, version, token }) => {
    const params = token === undefined ? {} : { token }
    const provider = new providers[version](url, room, new Y.Doc(), { WebSocketPolyfill: WebSocket, disableBc: true, params })
    provider.on('status', ({ status }) => { if (status === 'connected') emit('connected', { at: performance.now() }) })
    provider.on('connection-close', event => emit('closed', { code: event?.code ?? null, at: performance.now() }))
  }
})
