// The notifications of a user: the same on all devices, and after each loss only the changes are fetched.
// Protocol: opennoodl-notification-server/docs/protocol.md

import { Connection, type Message, randomId, type State } from './connection'
import type { GetToken } from './token'

export type NotificationType = 'invite' | 'mention' | 'thread' | 'session' | 'component' | 'system'

export interface Notification {
  id: string
  userId: string
  fromUserId: string
  type: NotificationType
  data: any
  read: boolean
  createdAt: string
  expiresAt: string
  readAt?: string
}

/** All that a device has to store to continue after a restart: the notifications, and the number that they reach. */
export interface Memory {
  since: number
  notifications: Notification[]
}

export interface InboxOptions {
  url: string
  userId: string
  getToken?: GetToken
  memory?: Memory
  onState?: (state: State, reason: string) => void
  onChange?: (inbox: Inbox) => void
  /** A notification arrived. */
  onNotification?: (notification: Notification) => void
  /** After a connect: the unread notifications that this device did not have; for a new device, all unread ones. */
  onMissed?: (notifications: Notification[]) => void
}

interface Request {
  message: Message
  resolve: (answer: Message) => void
  reject: (error: Error) => void
}

const PROBE = 'probe'
const PAGE = 'page'

export class Inbox {
  unreadCount = 0
  /** Whether the device has all notifications now; false while it is offline or loads them. */
  upToDate = false
  private readonly byId = new Map<string, Notification>()
  /** The device has every change up to this number; 0 if it has none, or not all pages. */
  private since: number
  /** Ids that the device had when it connected. */
  private known = new Set<string>()
  private readonly connection: Connection
  private readonly requests = new Map<string, Request>()

  constructor (private readonly options: InboxOptions) {
    this.since = options.memory?.since ?? 0
    for (const notification of options.memory?.notifications ?? []) this.byId.set(notification.id, notification)
    this.connection = new Connection({
      url: options.url,
      getToken: options.getToken,
      probe: { type: 'get-notifications', limit: 1, requestId: PROBE },
      onOpen: token => this.authenticate(token),
      onRenew: token => this.authenticate(token),
      onMessage: message => this.handle(message),
      onState: (state, reason) => {
        if (state !== 'connected') this.upToDate = false
        options.onState?.(state, reason)
      }
    })
  }

  connect () {
    this.connection.connect()
  }

  close () {
    this.connection.close()
    for (const { reject } of this.requests.values()) reject(new Error('the inbox was closed'))
    this.requests.clear()
  }

  /** Newest first. */
  get notifications () {
    return [...this.byId.values()].sort((a, b) => a.createdAt < b.createdAt ? 1 : -1)
  }

  get memory (): Memory {
    return { since: this.since, notifications: this.notifications }
  }

  /** Resolves when the notification is stored; then neither a crash nor a power cut loses it. */
  send (targetUserId: string, notificationType: NotificationType, data: unknown) {
    // With the key, the server stores it once, even if the request has to be repeated after a loss.
    return this.request({ type: 'send-notification', targetUserId, notificationType, data, idempotencyKey: randomId() })
  }

  markRead (notificationId: string) {
    return this.request({ type: 'mark-read', notificationId })
  }

  markAllRead () {
    return this.request({ type: 'mark-all-read' })
  }

  delete (notificationId: string) {
    return this.request({ type: 'delete-notification', notificationId })
  }

  private request (message: Message): Promise<Message> {
    return new Promise((resolve, reject) => {
      const requestId = randomId()
      this.requests.set(requestId, { message: { ...message, requestId }, resolve, reject })
      // Otherwise it is sent when the server has accepted this device.
      if (this.connection.state === 'connected') this.connection.send({ ...message, requestId })
    })
  }

  private authenticate (token?: string) {
    this.upToDate = false
    this.known = new Set(this.byId.keys())
    this.connection.send({ type: 'authenticate', userId: this.options.userId, token, since: this.since })
  }

  private handle (message: Message) {
    switch (message.type) {
      case 'authenticated': return this.authenticated(message.complete)
      case 'notifications':
        if (message.requestId !== PROBE) this.page(message)
        return
      case 'up-to-date':
        this.upToDate = true
        this.since = message.sequence
        this.changed(message)
        return this.tellMissed()
      case 'notification':
        this.byId.set(message.notification.id, message.notification)
        this.changed(message)
        if (this.upToDate) this.options.onNotification?.(message.notification)
        return
      case 'notification-updated':
        this.byId.set(message.notification.id, message.notification)
        return this.changed(message)
      case 'notifications-read':
        for (const [id, notification] of this.byId) {
          if (!notification.read) this.byId.set(id, { ...notification, read: true, readAt: message.readAt })
        }
        return this.changed(message)
      case 'notification-deleted':
        this.byId.delete(message.notificationId)
        return this.changed(message)
      case 'notifications-cleared':
        this.byId.clear()
        return this.changed(message)
      case 'notification-sent':
      case 'notification-revoked':
        return this.answered(message)
      case 'error': return this.failed(message)
    }
  }

  private authenticated (complete: boolean) {
    if (!complete) { // what this device knows is too old: all pages follow
      this.byId.clear()
      this.since = 0
    }
    const again = this.connection.state !== 'connected'
    this.connection.accepted()
    if (again) for (const { message } of this.requests.values()) this.connection.send(message)
  }

  private page (message: Message) {
    const notifications: Notification[] = message.notifications
    for (const notification of notifications) this.byId.set(notification.id, notification)
    if (message.hasMore) {
      const before = notifications[notifications.length - 1].createdAt
      this.connection.send({ type: 'get-notifications', before, requestId: PAGE })
    }
    this.unreadCount = message.unreadCount
    this.options.onChange?.(this)
  }

  private tellMissed () {
    const missed = this.notifications.filter(({ id, read }) => !read && !this.known.has(id))
    if (missed.length > 0) this.options.onMissed?.(missed)
  }

  private changed (message: Message) {
    // A number before `up-to-date` would hide the pages and changes that have not arrived yet.
    if (this.upToDate && message.sequence !== undefined) this.since = message.sequence
    if (message.unreadCount !== undefined) this.unreadCount = message.unreadCount
    this.answered(message)
    this.options.onChange?.(this)
  }

  private answered (message: Message) {
    this.requests.get(message.requestId)?.resolve(message)
    this.requests.delete(message.requestId)
  }

  private failed (message: Message) {
    if (message.code === 'unauthorized') return this.connection.refused(message.error)
    if (message.code === 'auth-unavailable' || message.code === 'too-many-connections') {
      return this.connection.busy(message.error)
    }
    this.requests.get(message.requestId)?.reject(new Error(message.error))
    this.requests.delete(message.requestId)
  }
}
