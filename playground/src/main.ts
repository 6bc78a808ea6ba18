// The page: it asks for a name and a room, and then wires the clients to what is shown.

import { Awareness } from 'y-protocols/awareness'
import * as bell from './bell'
import { randomId } from './client/connection'
import { Inbox, type Memory } from './client/inbox'
import { Signaling } from './client/signaling'
import { keepOffline, Sync } from './client/sync'
import { claims } from './client/token'
import { Delivery, Plot } from './delivery'
import { Direct } from './direct'
import { byId, say, soon } from './dom'
import { Editor } from './editor'
import { inspect, Log, Servers } from './inspect'
import { tokens } from './login'
import { Network } from './network'
import { People, type Person } from './people'
import { Project } from './project'
import { addressOf, roomOfAddress } from './room'
import * as storage from './storage'
import { Versions } from './versions'

type Addresses = Record<'signaling' | 'sync' | 'notification', string>
type Mode = 'both' | 'webrtc' | 'sync'

const http = (address: string) => address.replace(/^ws/, 'http')

const memory = (name: string) => {
  const key = `opennoodl/inbox/${name}`
  return {
    load: (): Memory | undefined => JSON.parse(storage.load('localStorage', key) ?? 'null') ?? undefined,
    save: (inbox: Inbox) => storage.save('localStorage', key, JSON.stringify(inbox.memory))
  }
}

const start = (addresses: Addresses, network: Network, name: string, room: string, firstToken: string) => {
  location.hash = addressOf(room)
  document.title = `${name} · OpenNoodl playground`
  storage.save('sessionStorage', 'name', name)
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
  let replaced = false
  let edited = false
  const stored = new Plot('stored')
  let mode: Mode = 'both'
  let iceServers: RTCIceServer[] | undefined

  const pathTo = ({ direct: id }: Person) =>
    direct.reaches(id) && mode !== 'sync' ? 'by WebRTC' : sync.provider.wsconnected ? 'by the server' : 'not connected'

  const show = soon(() => {
    people.show(pathTo)
    editor.draw()
    say('advice', advice())
    const { others } = people
    const near = others.filter(([, person]) => pathTo(person) === 'by WebRTC').length
    const ways = [
      ...(near > 0 ? [`directly by WebRTC to ${near} of ${others.length}`] : []),
      ...(sync.provider.wsconnected ? ['to the sync server, which stores them and passes them on'] : [])
    ]
    say('path', network.cut
      ? 'The network is cut. Edits stay in this browser until it is back.'
      : ways.length === 0 ? 'Edits reach nobody now. They stay in this browser.' : `Edits go ${ways.join(', and ')}.`)
  })

  /** What the user can do next. */
  const advice = () => {
    if (network.cut) return ''
    if (replaced) {
      return 'Another connection has taken the place of this page in the room. Reload the page to get a new place.'
    }
    if (mode !== 'webrtc' && sync.provider.wsUnsuccessfulReconnects > 0) {
      return 'The sync server cannot be reached. This page tries again until the server is back.'
    }
    if (people.others.length > 0) return readOnly ? 'Your token is read-only: you see all edits and make none.' : ''
    const names = [...new Set([...signaling.peers.values()].map(({ userId }) => userId))].join(', ')
    return names !== '' && mode === 'webrtc'
      ? `WebRTC does not reach others in this room yet (${names}). Edits do if all choose “both paths”.`
      : 'You are alone. Open the second window above, or send somebody the link.'
  }

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
    onStored: time => edited && stored.add(time), // the first acknowledgement of a page is of no edit
    onDenied: reason => bell.toast(`Sync server: ${reason}`)
  })
  const signaling = new Signaling({
    url: addresses.signaling,
    room,
    userId: name,
    metadata: { name },
    session: { title: `Room of ${name}` },
    getToken,
    onState: (state, reason) => {
      servers.state('signaling', state, reason)
      replaced = state === 'replaced'
      show()
    },
    onJoined: joined => {
      iceServers = joined.iceServers
      void choose(mode)
    },
    onPeers: () => show(),
    onError: (code, sentence) => bell.toast(`Signaling server: ${sentence} (${code})`)
  })
  const kept = memory(name)
  const inbox = new Inbox({
    url: addresses.notification,
    userId: name,
    getToken,
    memory: kept.load(),
    onState: (state, reason) => {
      servers.state('notification', state, reason)
      bell.show(inbox)
    },
    onChange: changed => {
      bell.show(changed, kept.save(changed))
    },
    onNotification: bell.announce,
    onMissed: bell.announceMissed
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
    if (!inbox.upToDate) bell.toast('The invite is sent when the notification server can be reached.')
    await inbox.send(invited, 'invite', { sessionId: room, sessionTitle })
    const online = signaling.joined ? await signaling.invite(invited, { sessionTitle }) : undefined
    const where = online === undefined ? '' : `, who is ${online ? 'online' : 'offline'} now`
    bell.toast(`The invite is in the inbox of ${invited}${where}.`)
  }

  project.doc.on('update', (_update, _origin, _doc, { local }) => { edited ||= local })
  new Delivery(project.doc, people)
  inspect(project)
  new Versions(http(addresses.sync), room, project, getToken)
  bell.listen(inbox)
  bell.show(inbox)
  awareness.on('change', show)
  keepOffline(room, project.doc).catch(() => bell.toast(
    'This browser keeps nothing for this page. Edits that are not saved on the server are lost when the page is closed.'))
  void choose(mode)
  // A read-only user may not join: peers could not enforce it.
  if (readOnly) servers.state('signaling', 'not joined', 'the token is read-only')
  else signaling.connect()
  inbox.connect()

  byId('copy').addEventListener('click', async () => {
    const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false)
    const here = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname)
      ? ' It works on this computer. For another one, replace its host by the name or address of this computer.'
      : ''
    bell.toast((copied === true ? 'The link is copied.' : `Copy this link: ${location.href}`) + here)
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
  byId(readOnly ? 'view' : 'add').focus()
}

/** Says who is in a room before the user joins it. */
const preview = async (addresses: Addresses, room: string) => {
  const shown = byId('preview')
  shown.textContent = ''
  if (room === '') return
  try {
    const answer = await fetch(`${http(addresses.signaling)}/session/${encodeURIComponent(room)}/info`)
    if (answer.status === 404) shown.textContent = 'Nobody is in this room now.'
    if (!answer.ok) return // without a token, a server that wants one tells nothing
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
  byId('start').querySelector('button')!.disabled = false
}

const name = byId<HTMLInputElement>('name')
name.value ||= storage.load('sessionStorage', 'name') ?? '' // after a reload; on a slow line it may be filled in already
name.focus()
open().catch(error => say('preview', `The playground's own server cannot be reached: ${error}. Reload the page.`))
