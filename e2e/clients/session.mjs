// The editor's CollaborationManager: own messages to the signaling server, simple-peer between the editors.
// It does not reconnect by itself; with `resume` this one does, and goes on where it was. With `count` it says how
// much of what it was told of its room it has received.

import Peer from 'simple-peer'
import WebSocket from 'ws'
import { emit, serve } from './lines.mjs'
import { peerOptions } from './peers.mjs'

const peers = new Map()
const unsent = []
let socket
let me
let resumeToken
let counts
let stubborn
let received

const send = message => {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message))
  else if (resumeToken !== undefined) unsent.push(message)
}

const connectTo = ({ peerId, userId }, initiator) => {
  const peer = new Peer({ initiator, ...peerOptions() })
  peers.set(peerId, peer)
  peer.on('signal', signal => send({ type: 'signal', to: peerId, signal }))
  peer.on('connect', () => emit('channel-open', { peerId, userId }))
  peer.on('data', data => emit('channel-data', { peerId, text: data.toString() }))
  peer.on('error', () => {}) // a killed editor breaks the channel; `close` follows and says so
  peer.on('close', () => {
    if (peers.get(peerId) === peer) peers.delete(peerId) // a signal that comes late would make a closed one throw
    emit('channel-closed', { peerId })
  })
}

const disconnectFrom = peerId => {
  peers.get(peerId)?.destroy()
  peers.delete(peerId)
}

// The newcomer calls everybody who is there already; they wait to be called.
const handlers = {
  joined: message => {
    ;({ resumeToken } = message)
    received = 0
    const there = new Set(message.peers.map(({ peerId }) => peerId))
    ;[...peers.keys()].filter(peerId => !message.resumed || !there.has(peerId)).forEach(disconnectFrom)
    if (!message.resumed) message.peers.forEach(peer => connectTo(peer, true))
    unsent.splice(0).forEach(send)
  },
  'peer-joined': message => connectTo(message, false),
  'peer-left': message => disconnectFrom(message.peerId),
  signal: message => peers.get(message.from)?.signal(message.signal)
}

const connect = url => new Promise((resolve, reject) => {
  socket = new WebSocket(url)
  socket.on('open', resolve)
  socket.on('error', reject)
  socket.on('close', code => {
    emit('closed', { code })
    // After 4409 the peer is elsewhere; a stubborn editor does not know that.
    if (stubborn || (resumeToken !== undefined && code !== 4409)) setTimeout(resume, 50, url)
  })
  socket.on('message', data => {
    const message = JSON.parse(data.toString())
    if (['peer-joined', 'peer-left', 'signal'].includes(message.type)) received++
    handlers[message.type]?.(message)
    emit(message.type, { message })
  })
})

const resume = url => connect(url).then(() => {
  send({ type: 'join', ...me, resumeToken, received: counts ? received : undefined })
}, () => {})

serve({
  connect: ({ url }) => connect(url),

  /** `startSession` and `joinSession` alike. */
  join: ({ room, peerId, userId, name, resume, count, token, persist = false }) => {
    counts = count
    stubborn = persist
    me = { room, peerId, userId, token, metadata: { name, color: '#4c9ffe' } }
    send({ type: 'join', ...me, resume, received: counts ? 0 : undefined })
  },

  /** Change what the others know of this editor. */
  rename: ({ name }) => send({ type: 'metadata', metadata: { ...me.metadata, name } }),

  /** What the editor's `SessionPreview` shows: it takes every answer that is JSON for a session. */
  preview: async ({ url, room }) => {
    try {
      const response = await fetch(`${url}/session/${encodeURIComponent(room)}/info`)
      const session = await response.json()
      const { projectName, audioEnabled, videoEnabled, screenShareEnabled, host, maxParticipants } = session
      const participants = session.participants.map(({ id, name }) => ({ id, name }))
      return { projectName, audioEnabled, videoEnabled, screenShareEnabled, host: host.name, maxParticipants, participants }
    } catch (error) {
      return error instanceof SyntaxError ? 'Session Not Found' : `crashed: ${error}`
    }
  },

  present: ({ session }) => send({ type: 'session', ...session }),

  /** Give the connection up, as when the network has changed. */
  drop: () => socket.terminate(),

  leave: () => {
    send({ type: 'leave', room: me.room, peerId: me.peerId })
    ;[...peers.keys()].forEach(disconnectFrom)
  },

  invite: ({ userId }) => send({
    type: 'invite',
    targetUserId: userId,
    roomId: me.room,
    sessionInfo: { title: 'Building a dashboard', hostName: me.userId }
  }),

  register: ({ userId }) => send({ type: 'register', userId }),
  say: ({ peerId, text }) => peers.get(peerId).send(text)
})
