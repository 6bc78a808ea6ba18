// The inbox: a bell with the number of unread notifications, a list, and toasts.

import type { Inbox, Notification } from './client/inbox'
import { byId, element } from './dom'
import { addressOf, roomOfAddress } from './room'

const TOAST_SECONDS = 12
const TOASTS = 4

/** A field of the data, which is any JSON: the sender chooses it. */
const field = ({ data }: Notification, name: string): string | undefined =>
  typeof data?.[name] === 'string' ? data[name] : undefined

const text = (notification: Notification) => {
  const { type, fromUserId } = notification
  if (type !== 'invite') return `${type} from ${fromUserId}`
  const room = field(notification, 'sessionTitle') ?? field(notification, 'sessionId') ?? 'a room'
  return `${fromUserId} invites you to ${room.length > 80 ? `${room.slice(0, 80)}…` : room}`
}

const roomLink = (notification: Notification) => {
  const room = field(notification, 'sessionId')
  if (notification.type !== 'invite' || room === undefined) return []
  if (room === roomOfAddress()) return [element('small', {}, 'You are in this room.')]
  return [element('a', { href: addressOf(room), target: '_blank' }, 'Join')]
}

export const toast = (message: string, ...more: Node[]) => {
  const shown = element('div', { className: 'toast' }, message, ' ', ...more)
  byId('toasts').append(shown)
  if (byId('toasts').children.length > TOASTS) byId('toasts').firstElementChild!.remove()
  const end = () => {
    // It stays while somebody reads it or has the focus on its link.
    if (shown.matches(':hover, :focus-within')) setTimeout(end, 1000)
    else shown.remove()
  }
  setTimeout(end, TOAST_SECONDS * 1000)
}

export const announce = (notification: Notification) => toast(text(notification), ...roomLink(notification))

/** One toast for all that came while this page was away. */
export const announceMissed = (missed: Notification[]) => {
  if (missed.length === 1) announce(missed[0])
  else toast(`${missed.length} unread notifications are in your inbox.`)
}

export const listen = (inbox: Inbox) => {
  const bell = byId('bell')
  const panel = byId('inbox')
  const open = (shown: boolean) => {
    panel.hidden = !shown
    bell.setAttribute('aria-expanded', String(shown))
  }
  bell.addEventListener('click', () => open(panel.hidden))
  document.addEventListener('keydown', event => {
    if (event.key === 'Escape' && !panel.hidden) {
      open(false)
      bell.focus()
    }
  })
  byId('read-all').addEventListener('click', () => run(inbox.markAllRead()))
}

/** A request that the server refuses is shown; it is not a fault of the page. */
export const run = (request: Promise<unknown>) => {
  request.catch((error: Error) => toast(error.message))
}

/** Shows the inbox; `kept` says whether this browser keeps it for the next visit. */
export const show = (inbox: Inbox, kept = true) => {
  const { notifications } = inbox
  byId('unread').textContent = String(inbox.unreadCount)
  byId('inbox-state').textContent = !inbox.upToDate
    ? 'Not up to date. Waiting for the notification server.'
    : notifications.length === 0 ? 'No notifications yet.'
      : kept ? '' : 'This browser has no space for this inbox. The next visit loads all of it again.'
  byId('read-all').hidden = inbox.unreadCount === 0
  const list = byId('notifications')
  const items = [...list.children]
  const focused = items.findIndex(item => item.contains(document.activeElement))
  list.replaceChildren(...notifications.map(notification => {
    const actions = element('div', { className: 'row' }, ...roomLink(notification))
    const button = (label: string, act: () => Promise<unknown>) => {
      const created = element('button', { type: 'button' }, label)
      created.setAttribute('aria-label', `${label}: ${text(notification)}`)
      created.addEventListener('click', () => run(act()))
      actions.append(created)
    }
    if (!notification.read) button('Read', () => inbox.markRead(notification.id))
    button('Delete', () => inbox.delete(notification.id))
    const when = element('small', {}, new Date(notification.createdAt).toLocaleString())
    return element('li', { className: notification.read ? '' : 'unread' }, text(notification), when, actions)
  }))
  if (focused < 0) return
  // The button with the focus is gone. The notification in its place has it now, or the bell.
  const next = list.children[Math.min(focused, list.children.length - 1)]
  ;(next?.querySelector('button') ?? byId('bell')).focus()
}
