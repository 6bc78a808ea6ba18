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

const listen = () => {
  const signaling = webrtc.signalingConns.at(-1)
  signaling.on('connect', () => emit('signaling', { connected: true }))
  signaling.on('disconnect', () => emit('signaling', { connected: false }))
  signaling.on('message', ({ type, clients, code }) => {
    if (type === 'publish') emit('published', { clients })
    if (type === 'error') emit('refused', { code })
  })
}

serve({
  ...documentCommands(() => ({ doc, awareness })),

  /**
   * Share the document; with `fallbackAfter` (ms), go on through the sync server like the editor does when no
   * peer could be reached by then. `others` are rooms beside it, over the same connection.
   */
  open: ({ signaling, room, password = null, policy = 'all', iceServers, fallbackAfter, sync, others = [] }) => {
    const options = { signaling: [signaling], password, awareness, peerOpts: peerOptions(policy, iceServers) }
    webrtc = new WebrtcProvider(room, doc, options)
    webrtc.on('peers', ({ added, removed }) => emit('peers', { added, removed }))
    webrtc.on('synced', ({ synced }) => emit('synced', { synced }))
    listen()
    others.forEach(name => new WebrtcProvider(name, new Y.Doc(), { signaling: [signaling] }))
    if (fallbackAfter !== undefined) setTimeout(fallbackAfter).then(() => fallBack(sync, room))
  },

  /** Go on through the sync server now, unless a peer was reached. */
  fallBack: ({ sync, room }) => fallBack(sync, room),

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

  /** Publish through the provider's own connection: so many messages at once, each with so many characters. */
  publish: ({ number, size = 0 }) => {
    const message = { type: 'publish', topic: webrtc.roomName, data: { type: 'other', text: 'x'.repeat(size) } }
    for (let i = 0; i < number; i++) webrtc.signalingConns.at(-1).send(message)
  },

  /** Publish now and then until the server passes it on. */
  untilPublished: () => {
    const signaling = webrtc.signalingConns.at(-1)
    let published = false
    signaling.on('message', ({ type, data }) => { published ||= type === 'publish' && data?.type === 'probe' })
    const probe = setInterval(() => {
      signaling.send({ type: 'publish', topic: webrtc.roomName, data: { type: 'probe' } })
    }, 200)
    return until(signaling, 'message', () => published).finally(() => clearInterval(probe))
  },

  peerId: () => webrtc.room.peerId,
  disconnect: () => webrtc.disconnect(),
  reconnect: () => {
    webrtc.connect()
    listen()
  },

  untilSignaling: ({ connected }) => {
    const [signaling] = webrtc.signalingConns
    const event = connected ? 'connect' : 'disconnect'
    return until(signaling, event, () => signaling.connected === connected)
  }
})
