// All participants of a room in one process, and the milliseconds that they wait for each other.

import Peer from 'simple-peer'
import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'
import { emit, serve, until } from './lines.mjs'
import { peerOptions } from './peers.mjs'

const EDITS = 20
const MOVES = 20

/** One editor of the session: resolves with the time from its `join` until it has a channel to `others` peers. */
const connect = async (url, peerId, others, done) => {
  const socket = new WebSocket(url)
  await new Promise((resolve, reject) => socket.on('open', resolve).on('error', reject))
  const peers = new Map()
  const send = message => socket.send(JSON.stringify(message))
  done.push(() => {
    for (const peer of peers.values()) peer.destroy()
    socket.terminate()
  })
  return new Promise(resolve => {
    const began = performance.now()
    let open = 0
    const call = (id, initiator) => {
      const peer = new Peer({ initiator, ...peerOptions() })
      peers.set(id, peer)
      peer.on('signal', signal => send({ type: 'signal', to: id, signal }))
      peer.on('connect', () => ++open === others && resolve(performance.now() - began))
      // The others leave while this one is still there; before that, an error says why it waits for ever.
      peer.on('error', error => emit('error', { message: error.message }))
    }
    socket.on('message', data => {
      const message = JSON.parse(data.toString())
      if (message.type === 'joined') {
        message.peers.forEach(peer => call(peer.peerId, true))
        if (others === 0) resolve(performance.now() - began)
      }
      if (message.type === 'peer-joined') call(message.peerId, false)
      if (message.type === 'error') emit('error', message)
      if (message.type === 'signal') peers.get(message.from)?.signal(message.signal)
    })
    send({ type: 'join', room: 'waiting', peerId, userId: peerId })
  })
}

const numbers = count => [...Array(count).keys()]

serve({
  /** Let participants join at the same moment; return how long each waited for its channels to all others. */
  webrtc: async ({ url, participants }) => {
    const done = []
    const waits = await Promise.all(numbers(participants).map(n => connect(url, `peer-${n}`, participants - 1, done)))
    done.forEach(leave => leave())
    return waits
  },

  /** Let participants join one after the other; return how long each waited for its channels to those before it. */
  arrivals: async ({ url, participants }) => {
    const done = []
    const waits = []
    for (const n of numbers(participants)) waits.push(await connect(url, `peer-${n}`, n, done))
    done.forEach(leave => leave())
    return waits
  },

  /** Let participants write and move; return how long the document took to settle, and each cursor to be seen. */
  sync: async ({ url, participants }) => {
    const providers = numbers(participants).map(() =>
      new WebsocketProvider(url, 'waiting', new Y.Doc(), { WebSocketPolyfill: WebSocket, disableBc: true }))
    const docs = providers.map(({ doc }) => doc)
    await Promise.all(providers.map(provider => until(provider, 'sync', () => provider.synced)))

    const began = performance.now()
    for (let i = 0; i < EDITS; i++) docs.forEach(doc => doc.getText('text').insert(0, 'edit '))
    const length = participants * EDITS * 'edit '.length
    await Promise.all(docs.map(doc => until(doc, 'update', () => doc.getText('text').length === length)))
    const settled = performance.now() - began
    const same = new Set(docs.map(doc => doc.getText('text').toString())).size === 1

    const cursors = []
    for (let move = 0; move < MOVES; move++) {
      const [mover, ...others] = [...providers.slice(move % participants), ...providers.slice(0, move % participants)]
      const sent = performance.now()
      const id = mover.doc.clientID
      const seen = others.map(({ awareness }) =>
        until(awareness, 'change', () => awareness.getStates().get(id)?.cursor === move)
          .then(() => cursors.push(performance.now() - sent)))
      mover.awareness.setLocalStateField('cursor', move)
      await Promise.all(seen)
    }
    providers.forEach(provider => provider.destroy())
    return { settled, same, cursors }
  }
})
