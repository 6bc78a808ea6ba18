// A minimal signaling server for rooms: it announces peers and passes signals on. It checks nothing.

import { WebSocketServer } from 'ws'

const rooms = new Map()

const send = (socket, message) => socket.send(JSON.stringify(message))

const leave = socket => {
  const room = rooms.get(socket.room)
  if (!room?.delete(socket.peerId)) return
  for (const other of room.values()) send(other, { type: 'peer-left', peerId: socket.peerId })
  if (room.size === 0) rooms.delete(socket.room)
}

const handlers = {
  join (socket, { room: name, peerId, userId, metadata }) {
    if (!rooms.has(name)) rooms.set(name, new Map())
    const room = rooms.get(name)
    Object.assign(socket, { room: name, peerId, userId, metadata })
    const peers = [...room.values()].map(({ peerId, userId, metadata }) => ({ peerId, userId, metadata }))
    send(socket, { type: 'joined', room: name, peerId, peers })
    for (const other of room.values()) send(other, { type: 'peer-joined', peerId, userId, metadata })
    room.set(peerId, socket)
  },
  signal (socket, { to, signal }) {
    const target = rooms.get(socket.room)?.get(to)
    if (target) send(target, { type: 'signal', from: socket.peerId, signal })
    else send(socket, { type: 'error', error: 'There is no such peer.', code: 'peer-not-found' })
  },
  leave
}

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.env.PORT) })
server.on('connection', socket => {
  socket.on('message', text => {
    const message = JSON.parse(text)
    handlers[message.type]?.(socket, message)
  })
  socket.on('close', () => leave(socket))
})
