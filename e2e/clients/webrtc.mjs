// One editor: a document that y-webrtc shares, and the sync server where WebRTC finds no way.
// y-webrtc keeps its rooms in the module, so one process is one editor.

import { setTimeout } from 'node:timers/promises'
import WebSocket from 'ws'
import { Awareness } from 'y-protocols/awareness'
import { WebrtcProvider } from 'y-webrtc'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { documentCommands } from './documents.mjs'
import { emit, serve, until } from './lines.mjs'
import { peerOptions } from './peers.mjs'

globalThis.WebSocket = WebSocket

const doc = new Y.Doc()
const awareness = new Awareness(doc)
let webrtc

const connections = () => [...(webrtc.room?.webrtcConns.values() ?? [])]

/** How many bytes a data channel has counted itself: none of these came from a server. */
const received = async ({ peer }) => {
  const report = await peer._pc.getStats()
  const channels = [...report.values()].filter(({ type }) => type === 'data-channel')
  return channels.reduce((sum, { bytesReceived }) => sum + bytesReceived, 0)
}

const fallBack = (url, room) => {
  if (connections().some(({ connected, synced }) => connected && synced)) return emit('direct')
  const options = { WebSocketPolyfill: WebSocket, disableBc: true, awareness }
  new WebsocketProvider(url, room, doc, options).on('sync', synced => synced && emit('fallback'))
}

serve({
  ...documentCommands(() => ({ doc, awareness })),

  /**
   * Share the document; with `fallbackAfter` (ms), go on through the sync server like the editor does when no
   * peer could be reached by then.
   */
  open: ({ signaling, room, password = null, policy = 'all', iceServers, fallbackAfter, sync }) => {
    const options = { signaling: [signaling], password, awareness, peerOpts: peerOptions(policy, iceServers) }
    webrtc = new WebrtcProvider(room, doc, options)
    webrtc.on('peers', ({ added, removed }) => emit('peers', { added, removed }))
    webrtc.on('synced', ({ synced }) => emit('synced', { synced }))
    webrtc.signalingConns[0].on('message', ({ type, clients }) => {
      if (type === 'publish') emit('published', { clients })
    })
    if (fallbackAfter !== undefined) setTimeout(fallbackAfter).then(() => fallBack(sync, room))
  },

  connections: () => connections().map(({ connected, synced, peer }) => ({
    connected,
    synced,
    channel: peer._channel?.readyState ?? 'none'
  })),

  /** Wait until that much has come over data channels; their statistics are only renewed now and then. */
  untilReceived: async ({ bytes }) => {
    while ((await Promise.all(connections().map(received))).reduce((sum, one) => sum + one, 0) < bytes) {
      await setTimeout(20)
    }
  },

  /** Peers that are reached otherwise than over WebRTC. */
  otherwise: () => [...webrtc.room.bcConns],

  untilSignaling: ({ connected }) => {
    const [signaling] = webrtc.signalingConns
    const event = connected ? 'connect' : 'disconnect'
    return until(signaling, event, () => signaling.connected === connected)
  }
})
