// The page: it asks for a name and a room, and then wires the clients to what is shown.

import { Awareness } from 'y-protocols/awareness'
import * as bell from './bell'
import { randomId } from './client/connection'
import { Inbox, type Memory } from './client/inbox'
import { Signaling } from './client/signaling'
import { keepOffline, Sync } from './client/sync'
import { claims, type GetToken } from './client/token'
import { Delivery, Plot } from './delivery'
import { Direct } from './direct'
import { byId } from './dom'
import { Editor } from './editor'
import { inspect, Log, Servers, soon } from './inspect'
import { Network } from './network'
import { People, type Person } from './people'
import { Project } from './project'

type Addresses = Record<'signaling' | 'sync' | 'notification', string>
type Mode = 'both' | 'webrtc' | 'sync'

const http = (address: string) => address.replace(/^ws/, 'http')

/** The room is in the fragment of the address, which no browser sends to a server: its name is its secret. */
const roomOfAddress = () => new URLSearchParams(location.hash.slice(1)).get('room')

/** The token of this page; `current` until a client finds it refused or nearly expired, and then the user's next one. */
const tokens = (first: string, onRenewed: (token: string) => void): GetToken => {
  let current = first === '' ? undefined : first
  let asking: Promise<string> | undefined
  const dialog = byId<HTMLDialogElement>('login')
  return async old => {
    if (old === undefined || old !== (current ?? '')) return current
    byId('login-reason').textContent = current === undefined
      ? 'The servers ask for one.'
      : 'The servers refused the former one, or it expires soon.'
    asking ??= new Promise<string>(resolve => {
      dialog.showModal()
      dialog.addEventListener('close', () => resolve(byId<HTMLInputElement>('newer').value.trim()), { once: true })
    }).finally(() => {
      asking = undefined
      byId<HTMLInputElement>('newer').value = ''
    })
    current = await asking || undefined
    if (current !== undefined) onRenewed(current)
    return current
  }
}

const memory = (name: string) => {
  const key = `opennoodl/inbox/${name}`
  return {
    load: (): Memory | undefined => JSON.parse(localStorage.getItem(key) ?? 'null') ?? undefined,
    save: (inbox: Inbox) => localStorage.setItem(key, JSON.stringify(inbox.memory))
  }
}

const start = (addresses: Addresses, network: Network, name: string, room: string, firstToken: string) => {
  location.hash = `room=${room}`
  sessionStorage.setItem('name', name)
  addEventListener('hashchange', () => roomOfAddress() === room || location.reload())
  byId('start').hidden = true
  byId('work').hidden = byId('actions').hidden = false
  byId<HTMLAnchorElement>('second').href = location.href
  const readOnly = claims(firstToken).access === 'read'

  const project = new Project()
  const awareness = new Awareness(project.doc)
  const people = new People(awareness, name)
  const servers = new Servers(addresses, network)
  const getToken = tokens(firstToken, token => direct.renew(token))
  const stored = new Plot('stored')
  let mode: Mode = 'both'
  let iceServers: RTCIceServer[] | undefined

  const pathTo = ({ direct: id }: Person) =>
    direct.reaches(id) && mode !== 'sync' ? 'direct' : sync.provider.wsconnected ? 'by the server' : 'not connected'

  const show = soon(() => {
    people.show(pathTo)
    editor.draw()
    const { others } = people
    const near = others.filter(([, person]) => pathTo(person) === 'direct').length
    const alone = others.length === 0
    const hint = byId('hint')
    hint.classList.toggle('alone', alone)
    if (alone) hint.textContent = 'You are alone. Open the second window above, or send somebody the link.'
    else if (hint.textContent!.startsWith('You are alone')) hint.textContent = ''
    const ways = [
      ...(near > 0 ? [`directly by WebRTC to ${near} of ${others.length}`] : []),
      ...(sync.provider.wsconnected ? ['to the sync server, which stores them and passes them on'] : [])
    ]
    byId('path').textContent = network.cut
      ? 'The network is cut. Edits stay in this browser until it is back.'
      : ways.length === 0 ? 'Edits reach nobody now. They stay in this browser.' : `Edits go ${ways.join(', and ')}.`
  })

  const direct = new Direct({
    signaling: addresses.signaling,
    room,
    userId: name,
    doc: project.doc,
    awareness,
    onChange: () => {
      if (direct.id !== (awareness.getLocalState() as Person).direct) people.set('direct', direct.id)
      show()
    }
  })
  const sync = new Sync({
    url: addresses.sync,
    room,
    doc: project.doc,
    awareness,
    getToken,
    onState: (state, reason) => {
      servers.state('sync', state, reason)
      byId('saved').textContent = { saved: 'Saved', saving: 'Saving…' }[state as string] ?? 'Not saved on the server'
      show()
    },
    onStored: time => stored.add(time),
    onDenied: reason => bell.toast(`Sync server: ${reason}`)
  })
  const signaling = new Signaling({
    url: addresses.signaling,
    room,
    userId: name,
    metadata: { name },
    session: { title: `Room of ${name}` },
    getToken,
    onState: (state, reason) => servers.state('signaling', state, reason),
    onJoined: joined => {
      iceServers = joined.iceServers
      void choose(mode)
    },
    onError: (code, sentence) => bell.toast(`Signaling server: ${sentence} (${code})`)
  })
  const kept = memory(name)
  const inbox = new Inbox({
    url: addresses.notification,
    userId: name,
    getToken,
    memory: kept.load(),
    onState: (state, reason) => servers.state('notification', state, reason),
    onChange: changed => {
      kept.save(changed)
      bell.show(changed)
    },
    onNotification: notification => bell.announce(notification)
  })
  const editor = new Editor(project, people, readOnly)

  /** Uses both paths, or one of them. A document that is on both arrives by the faster one, and loses neither. */
  const choose = async (chosen: Mode) => {
    mode = chosen
    if (mode === 'sync' || network.cut || iceServers === undefined) direct.stop()
    else direct.start(iceServers, await getToken())
    if (mode === 'webrtc') sync.disconnect()
    else if (sync.state === 'closed') sync.connect()
    show()
  }

  /** The notification waits until it is read. The signaling server knows who is online, and stores nothing. */
  const invite = async (invited: string) => {
    const sessionTitle = `Room of ${name}`
    await inbox.send(invited, 'invite', { sessionId: room, sessionTitle })
    const online = await signaling.invite(invited, { sessionTitle })
    bell.toast(`The invite is in the inbox of ${invited}, who is ${online ? 'online' : 'offline'} now.`)
  }

  new Delivery(project.doc, people)
  inspect(project)
  bell.listen(inbox)
  bell.show(inbox)
  awareness.on('change', show)
  keepOffline(room, project.doc)
  void choose(mode)
  if (!readOnly) signaling.connect() // a read-only user may not join: peers could not enforce it
  inbox.connect()

  byId('copy').addEventListener('click', async () => {
    const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false)
    bell.toast(copied === true ? 'The link is copied.' : `Copy this link: ${location.href}`)
  })
  for (const choice of document.querySelectorAll<HTMLInputElement>('input[name=mode]')) {
    choice.addEventListener('change', () => void choose(choice.value as Mode))
  }
  byId('cut').addEventListener('click', () => {
    if (network.cut) network.reconnect()
    else network.disconnect()
    byId('cut').textContent = network.cut ? 'Restore the network' : 'Cut the network'
    byId('cut').setAttribute('aria-pressed', String(network.cut))
    void choose(mode)
  })
  byId('invite').addEventListener('submit', event => {
    event.preventDefault()
    const invited = byId<HTMLInputElement>('invited').value.trim()
    byId<HTMLFormElement>('invite').reset()
    bell.run(invite(invited))
  })
  show()
}

/** Says who is in a room before the user joins it. */
const preview = async (addresses: Addresses, room: string) => {
  const shown = byId('preview')
  shown.textContent = ''
  if (room === '') return
  try {
    const answer = await fetch(`${http(addresses.signaling)}/session/${encodeURIComponent(room)}/info`)
    if (!answer.ok) return
    const { participants } = await answer.json()
    const names = participants.map(({ name, userId }: { name?: string, userId: string }) => name ?? userId)
    shown.textContent = `Here now: ${names.join(', ')}`
  } catch {
    shown.textContent = `The signaling server cannot be reached at ${addresses.signaling}.`
  }
}

const open = async () => {
  const addresses: Addresses = await (await fetch('config.json')).json()
  const log = new Log()
  const network = new Network(addresses, frame => log.add(frame))
  const room = byId<HTMLInputElement>('room')
  room.value = roomOfAddress() ?? `room-${randomId().slice(0, 12)}`
  if (roomOfAddress() !== null) void preview(addresses, room.value)
  room.addEventListener('change', () => void preview(addresses, room.value))
  byId('start').addEventListener('submit', event => {
    event.preventDefault()
    const value = (id: string) => byId<HTMLInputElement>(id).value.trim()
    start(addresses, network, value('name'), value('room'), value('token'))
  })
  byId<HTMLInputElement>('name').value = sessionStorage.getItem('name') ?? '' // after a reload
  byId('name').focus()
}

void open()
