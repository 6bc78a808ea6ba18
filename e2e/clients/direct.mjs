// The direct path of the playground, y-webrtc, without a peer.

import WebSocket from 'ws'
import { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { Direct } from '../../playground/src/direct.ts'
import { serve } from './lines.mjs'

globalThis.WebSocket = WebSocket

let direct

serve({
  start: ({ url }) => {
    const doc = new Y.Doc()
    const awareness = new Awareness(doc)
    direct = new Direct({ signaling: url, room: 'room', userId: 'ann', doc, awareness, onChange: () => {} })
    direct.start([])
  },

  renew: ({ token }) => direct.renew(token),

  /** Signal to a peer as y-webrtc does. */
  signal: () => direct.provider.signalingConns[0].send({ type: 'publish', topic: 'room', data: {} })
})
