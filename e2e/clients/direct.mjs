// The direct path of the playground, y-webrtc, without a peer.

import { rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import WebSocket from 'ws'
import { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'
import { serve } from './lines.mjs'

globalThis.WebSocket = WebSocket

const path = relative => fileURLToPath(new URL(relative, import.meta.url))
const outfile = path(`./direct-${process.pid}.mjs`)
const external = ['yjs', 'y-protocols', 'y-webrtc']
await build({ entryPoints: [path('../../playground/src/direct.ts')], bundle: true, format: 'esm', external, outfile })
const { Direct } = await import(outfile).finally(() => rm(outfile))

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
