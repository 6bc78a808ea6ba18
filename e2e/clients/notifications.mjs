// The editor's NotificationManager: keeps its list from what the server sends.

import WebSocket from 'ws'
import { emit, serve } from './lines.mjs'

let socket
let notifications = []

const send = message => socket.send(JSON.stringify(message))

const handlers = {
  notifications: message => { notifications = message.notifications },
  notification: message => { notifications = [message.notification, ...notifications] },
  'notification-updated': ({ notification }) => {
    notifications = notifications.map(known => known.id === notification.id ? notification : known)
  },
  'notification-deleted': ({ notificationId }) => {
    notifications = notifications.filter(known => known.id !== notificationId)
  }
}

serve({
  /** Connect; the server sends the list unasked. */
  initialize: ({ url, userId, token }) => new Promise((resolve, reject) => {
    socket = new WebSocket(url)
    socket.on('open', () => {
      send({ type: 'authenticate', userId, token })
      resolve()
    })
    socket.on('error', reject)
    socket.on('close', code => emit('closed', { code }))
    socket.on('message', data => {
      const message = JSON.parse(data.toString())
      handlers[message.type]?.(message)
      emit(message.type, { message })
    })
  }),

  // Word for word what the editor does: the second `type` wins and 'send-notification' never reaches the wire.
  // eslint-disable-next-line no-dupe-keys
  sendNotification: ({ userId, type, data }) => send({ type: 'send-notification', targetUserId: userId, type, data }),

  /** What it meant to send. */
  sendAsMeant: ({ userId, type, data }) =>
    send({ type: 'send-notification', targetUserId: userId, notificationType: type, data }),

  getNotifications: () => send({ type: 'get-notifications' }),
  markAsRead: ({ notificationId }) => send({ type: 'mark-read', notificationId }),
  deleteNotification: ({ notificationId }) => send({ type: 'delete-notification', notificationId }),

  list: () => notifications,

  /** The times as the editor reads them: milliseconds since 1970, or null where `new Date` makes nothing of it. */
  times: () => notifications.map(({ createdAt, expiresAt, readAt }) => ({
    createdAt: new Date(createdAt).getTime(),
    expiresAt: new Date(expiresAt).getTime(),
    readAt: readAt === undefined ? undefined : new Date(readAt).getTime()
  })),

  disconnect: () => socket.close()
})
