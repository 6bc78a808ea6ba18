// The usual pattern of a small notification server: one array in a LowDB file, searched from end to end, and written
// whole at each change. It answers when the file is written, which is not yet to say that the disk has it.

import { randomUUID } from 'node:crypto'
import { JSONFilePreset } from 'lowdb/node'
import { WebSocketServer } from 'ws'

const PAGE = 50
const TTL = 30 * 24 * 60 * 60 * 1000

const db = await JSONFilePreset(process.env.DATA, { notifications: [] })
const devices = new Map()

const send = (socket, message) => socket.send(JSON.stringify(message))

const page = (user, { limit = PAGE, before } = {}) => {
  const own = db.data.notifications.filter(one => one.userId === user).reverse()
  const known = before === undefined ? own : own.filter(one => one.createdAt < before)
  return {
    type: 'notifications',
    notifications: known.slice(0, limit),
    unreadCount: own.filter(one => !one.read).length,
    hasMore: known.length > limit
  }
}

const handlers = {
  authenticate (socket, { userId }) {
    socket.user = userId
    if (!devices.has(userId)) devices.set(userId, new Set())
    devices.get(userId).add(socket)
    send(socket, { type: 'authenticated', userId })
    send(socket, page(userId))
  },
  'get-notifications' (socket, message) {
    send(socket, page(socket.user, message))
  },
  async 'send-notification' (socket, { targetUserId, notificationType, data }) {
    const now = Date.now()
    const notification = {
      id: randomUUID(),
      userId: targetUserId,
      fromUserId: socket.user,
      type: notificationType,
      data,
      read: false,
      createdAt: new Date(now).toISOString(),
      expiresAt: new Date(now + TTL).toISOString()
    }
    db.data.notifications.push(notification)
    await db.write()
    for (const device of devices.get(targetUserId) ?? []) send(device, { type: 'notification', notification })
    send(socket, { type: 'notification-sent', notificationId: notification.id })
  }
}

const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.env.PORT) })
server.on('connection', socket => {
  socket.on('message', text => {
    const message = JSON.parse(text)
    handlers[message.type]?.(socket, message)
  })
  socket.on('close', () => devices.get(socket.user)?.delete(socket))
})
