// The inbox: a bell with the number of unread notifications, a list, and toasts.

import type { Inbox, Notification } from './client/inbox'
import { byId, element } from './dom'
import { addressOf, roomOfAddress } from './room'

const TOAST_SECONDS = 12

const text = ({ type, fromUserId, data }: Notification) =>
  type === 'invite' ? `${fromUserId} invites you to ${data.sessionTitle ?? data.sessionId}` : `${type} from ${fromUserId}`

const roomLink = ({ type, data }: Notification) => {
  if (type !== 'invite' || typeof data.sessionId !== 'string') return []
  if (data.sessionId === roomOfAddress()) return [element('small', {}, 'You are in this room.')]
  return [element('a', { href: addressOf(data.sessionId), target: '_blank' }, 'Join')]
}

export const toast = (message: string, ...more: Node[]) => {
  const shown = element('div', { className: 'toast' }, message, ' ', ...more)
  byId('toasts').append(shown)
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

export const show = (inbox: Inbox) => {
  const { notifications } = inbox
  byId('unread').textContent = String(inbox.unreadCount)
  byId('inbox-state').textContent = !inbox.upToDate
    ? 'Not up to date. Waiting for the notification server.'
    : notifications.length === 0 ? 'No notifications yet.' : ''
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
